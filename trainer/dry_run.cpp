#include "trainer/dry_run.h"

#include "parallel/meta/meta_communicator.h"
#include "trainer/train_step.h"

namespace jevons {

DryRun dry_run(const RunConfig& config, int world_size) {
  MetaCommunicator world(0, world_size);
  Worker worker(config, world, Device::kMeta, nullptr);
  const std::int64_t sequences = config.train.global_batch_size;
  const HostBatch batch(sequences / worker.dp_size(), config.model.seq_len);
  train_step(worker, batch, {.global_sequences = sequences, .optimizer_step = 1, .lr = config.optim.lr});
  return {.memory = worker.memory(), .work = worker.meter(), .global_sequences = sequences};
}

}  // namespace jevons
