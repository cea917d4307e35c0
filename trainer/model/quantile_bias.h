// Quantile balancing: the selection bias of each expert becomes that with which the share K / E of the tokens
// would have chosen it, by their margins in the global batch of a step (kernels/moe/margins.h, docs/moe.md).
// Counts are whole numbers, so the bias has the same bits however the tokens are spread over ranks.
#pragma once

#include <cstdint>
#include <span>

#include "parallel/param_store.h"

namespace jevons {

// Per expert, linear inside a bin, minus the mean over the experts. histograms (E, kMarginBins) over all
// tokens, counted with `bias` (E), which is written over; without a token it stays.
template <class A>
void set_quantile_bias(std::span<const std::int64_t> histograms, std::int64_t top_k, std::span<A> bias);

// The histograms of a layer.
class QuantileBias {
 public:
  QuantileBias(Device device, std::int64_t experts, std::int64_t top_k);

  // Adds the tokens of a micro-batch; as margin_counts.
  void count(const Context& ctx, Tensor scores, Tensor indices, Tensor bias);
  // Starts the copy of this step's counts to the host, and the next step's.
  void fetch(const Context& ctx);
  // Once that copy has arrived: sums over the ranks of `stage`. Collective.
  void sum(const Context& ctx, Communicator& stage);
  // bias (E) f32 or f64 on the host.
  void set(Tensor bias) const;

 private:
  std::int64_t top_k_;
  Buffer here_memory_, host_memory_;
  Tensor here_, host_;
};

}  // namespace jevons
