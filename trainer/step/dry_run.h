// The dry run: the real model, dispatcher, gradient sync and optimizer for one step on the meta device, in
// one process, for a world of any size. There is no second model of the model.
#pragma once

#include "trainer/config/run_config.h"
#include "trainer/step/work_records.h"
#include "trainer/step/worker.h"

namespace jevons {

struct DryRun {
  MemoryReport memory;                // of rank 0, at balanced routing, validation included
  WorkRecords work;                   // of rank 0, one step
  std::int64_t global_sequences = 0;  // of that step
};

// `config` must be resolved for `world_size` workers. Throws what a real start would throw.
DryRun dry_run(const RunConfig& config, int world_size);

}  // namespace jevons
