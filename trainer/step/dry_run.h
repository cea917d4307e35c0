// The dry run: the real model, dispatcher, gradient sync and optimizer for one step on the meta device, in
// one process, for a world of any size. There is no second model of the model.
#pragma once

#include "trainer/config/run_config.h"
#include "trainer/step/memory_report.h"
#include "trainer/step/work_records.h"

namespace jevons {

// Of the first worker of one rank of the pipeline; the others of its stages do the same.
struct DryRun {
  MemoryReport memory;                // at balanced routing, validation included
  WorkRecords work;                   // one step
  std::int64_t global_sequences = 0;  // of that step
};

// `config` must be resolved for `world_size` workers. Throws what a real start would throw.
DryRun dry_run(const RunConfig& config, int world_size, int pipeline_rank = 0);

}  // namespace jevons
