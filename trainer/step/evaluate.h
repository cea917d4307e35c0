// Losses of a model on given micro-batches, with its weights as they are.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "trainer/step/batch.h"
#include "trainer/step/model_worker.h"

namespace jevons {

// Means over the target tokens of the samples that were read, in nats; nothing without a target.
struct Evaluation {
  std::optional<double> loss;
  std::vector<std::optional<double>> mtp_losses;  // of each depth of multi-token prediction
  // Share of the rows with a target of the first depth at which that depth chooses the token that the model
  // itself chooses one row later: what greedy speculative decoding would accept on this text. Nothing without
  // such a depth.
  std::optional<double> mtp_acceptance;
};

// Over `rounds` micro-batches, which `fill` reads one after another; no weight changes. Every worker passes
// as many rounds. Collective.
Evaluation evaluate(ModelWorker& worker, std::int64_t rounds,
                    const std::function<void(std::int64_t round, HostBatch& batch)>& fill);

}  // namespace jevons
