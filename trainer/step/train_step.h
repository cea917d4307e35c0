// One optimizer step of one worker, without input or output: forward and backward over the micro-batches,
// gradient sync, guard, clip, update. Used by the trainer on real memory and by the dry run on the meta
// device.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "trainer/config/step_plan.h"
#include "trainer/step/batch.h"
#include "trainer/step/worker.h"

namespace jevons {

// Where a step stands in the run.
struct StepPosition {
  std::int64_t global_sequences = 0;  // of all workers
  std::int64_t optimizer_step = 1;    // counts from 1, skipped steps not counted
  double lr = 0;
  double spike_limit = std::numeric_limits<double>::infinity();  // a loss above it is a spike
  std::optional<Coefficients> coefficients = {};                 // nothing: the configuration's
};

struct StepOutcome {
  std::optional<double> loss;  // nats per target token, over the global batch; nothing without a target
  std::vector<std::optional<double>> mtp_losses;  // the same of each depth of multi-token prediction
  double grad_norm = 0;                           // before clipping
  std::optional<double> largest_logit;            // of attention (QkClip::largest), where that is watched
  std::int64_t target_tokens = 0;                 // of the global batch
  bool skipped = false;                           // not finite, a spike, or no target: no weight was changed
  bool spike = false;                             // skipped although it is finite
  std::string origin;               // of what is not finite (find_nonfinite.h); the same on all ranks
  std::vector<LayerHealth> layers;  // of each MoE layer, in order
  double seconds = 0;  // that this worker's step took, with reading its batch; set by the trainer

  bool is_finite() const;
};

// Collective. On return the device is done with the batch and the weights. `batch` holds global_sequences /
// dp sequences, a multiple of micro_batch_size. A batch without any target on any rank teaches nothing:
// weights, moments and selection biases stay as they are.
StepOutcome train_step(Worker& worker, const HostBatch& batch, const StepPosition& position);

}  // namespace jevons
