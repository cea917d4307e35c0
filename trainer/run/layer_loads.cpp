#include "trainer/run/layer_loads.h"

#include <numeric>

namespace jevons {
namespace {

// Every expert's load over the mean.
std::vector<double> relative_load(const std::vector<std::int64_t>& load) {
  const double mean =
      static_cast<double>(std::accumulate(load.begin(), load.end(), std::int64_t{0})) / std::ssize(load);
  std::vector<double> relative;
  for (const std::int64_t slots : load) relative.push_back(mean > 0 ? static_cast<double>(slots) / mean : 0);
  return relative;
}

}  // namespace

std::vector<LayerLoad> layer_loads(const StepOutcome& outcome, ExpertDetail detail) {
  std::vector<LayerLoad> loads;
  for (const LayerHealth& h : outcome.layers) {
    loads.push_back({.layer = h.layer,
                     .max_over_mean = h.max_over_mean,
                     .dead_experts = h.dead_experts,
                     .router_entropy = h.router_entropy,
                     .dropped_tokens = h.dropped_slots,
                     .load = {},
                     .max_rows = h.max_rows,
                     .balance_loss = h.micro_batch_balance,
                     .sequence_balance_loss = h.sequence_balance,
                     .global_balance_loss = h.global_balance,
                     .z_loss = h.z_loss});
    if (detail == ExpertDetail::kEvery) loads.back().load = relative_load(h.load);
  }
  return loads;
}

}  // namespace jevons
