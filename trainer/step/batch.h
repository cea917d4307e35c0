// What a worker reads: its sequences of a step or an evaluation on the host, and the passes over them.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "data/data_loader.h"
#include "trainer/step/model_worker.h"

namespace jevons {

// This worker's sequences of a step, on the host, in memory that `device` can copy from beside other work.
struct HostBatch {
  Buffer memory;
  std::int64_t sequences = 0;
  std::span<std::int32_t> tokens, targets, doc_start;  // (sequences, seq_len)

  HostBatch(std::int64_t sequences, std::int64_t seq_len, Device device);
  BatchView view() { return {tokens, targets, doc_start}; }
};

std::int64_t micro_batches_of(const ModelWorker& worker, const HostBatch& batch);

// What passes over the batch read, and where they leave their figures: worker.figures(). Refers to both.
PassHooks hooks_of(ModelWorker& worker, const HostBatch& batch);

// Target tokens of this worker's batch: of the model, then of each depth of multi-token prediction.
std::vector<std::int64_t> count_targets(const ModelWorker& worker, const HostBatch& batch);
// The sum over replicas: tp and cp ranks hold the same sequences, which count once. Collective.
std::vector<std::int64_t> global_targets(ModelWorker& worker, std::vector<std::int64_t> counts);

}  // namespace jevons
