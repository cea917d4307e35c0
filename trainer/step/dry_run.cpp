#include "trainer/step/dry_run.h"

#include "parallel/meta/meta_communicator.h"
#include "trainer/step/evaluate.h"
#include "trainer/step/train_step.h"

namespace jevons {

DryRun dry_run(const RunConfig& config, int world_size, int pipeline_rank) {
  MetaCommunicator world(pipeline_rank * (world_size / config.parallel.layout.pp), world_size);
  const Device modelled = config.device == DeviceChoice::kCuda ? Device::kCuda : Device::kCpu;
  WorkRecords work;
  Worker worker(config, world, {.device = Device::kMeta, .modelled = modelled, .listener = &work}, nullptr);
  const std::int64_t sequences = config.train.global_batch_size;
  const HostBatch batch(sequences / worker.dp_size(), config.model.seq_len, Device::kMeta);
  train_step(worker, batch, {.global_sequences = sequences, .optimizer_step = 1, .lr = config.optim.lr});
  const WorkRecords of_step = work;
  if (config.data.validation_fraction > 0 || !config.data.validation.empty()) {
    evaluate(worker, 1, [](std::int64_t, HostBatch&) {});
  }
  return {.memory = worker.memory(), .work = of_step, .global_sequences = sequences};
}

}  // namespace jevons
