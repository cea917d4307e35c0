#include "trainer/model/quantile_bias.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "kernels/core/error.h"
#include "kernels/moe/margins.h"
#include "parallel/host_exchange.h"

namespace jevons {
namespace {

// Where the first `target` of the counts end, in bins; target > 0.
double place_of(std::span<const std::int64_t> counts, double target) {
  double below = 0;
  for (std::size_t bin = 0; bin < counts.size(); ++bin) {
    const auto count = static_cast<double>(counts[bin]);
    if (count > 0 && below + count >= target) return static_cast<double>(bin) + (target - below) / count;
    below += count;
  }
  return static_cast<double>(counts.size());
}

}  // namespace

template <class A>
void set_quantile_bias(std::span<const std::int64_t> histograms, std::int64_t top_k, std::span<A> bias) {
  const auto experts = std::ssize(bias);
  ENSURE(std::ssize(histograms) == experts * kMarginBins, "{} counts for {} experts", histograms.size(),
         experts);
  const auto [smallest, largest] = std::ranges::minmax(bias);
  const auto range = MarginRange<A>::of(smallest, largest);
  std::vector<double> quantiles;
  for (std::int64_t i = 0; i < experts; ++i) {
    const auto counts = histograms.subspan(static_cast<std::size_t>(i * kMarginBins), kMarginBins);
    const auto tokens = std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
    if (tokens == 0) return;
    const double target = static_cast<double>(tokens * top_k) / static_cast<double>(experts);
    quantiles.push_back(static_cast<double>(range.low) +
                        static_cast<double>(range.width) * place_of(counts, target));
  }
  const double mean = std::accumulate(quantiles.begin(), quantiles.end(), 0.0) / static_cast<double>(experts);
  std::ranges::transform(quantiles, bias.begin(), [mean](double q) { return static_cast<A>(q - mean); });
}

template void set_quantile_bias(std::span<const std::int64_t>, std::int64_t, std::span<float>);
template void set_quantile_bias(std::span<const std::int64_t>, std::int64_t, std::span<double>);

QuantileBias::QuantileBias(Device device, std::int64_t experts, std::int64_t top_k) : top_k_(top_k) {
  const Shape shape{experts, kMarginBins};
  const std::size_t bytes = static_cast<std::size_t>(shape.numel()) * sizeof(std::int64_t);
  here_memory_ = Buffer(device, bytes);
  host_memory_ = Buffer::pinned_for(device == Device::kMeta ? Device::kCpu : device, bytes);
  here_ = here_memory_.view(0, shape, DType::kI64);
  host_ = host_memory_.view(0, shape, DType::kI64);
}

void QuantileBias::count(const Context& ctx, Tensor scores, Tensor indices, Tensor bias) {
  margin_counts(ctx, scores, indices, bias, here_);
}

void QuantileBias::fetch(const Context& ctx) {
  copy_async(ctx.stream, host_, here_);
  zero_async(ctx.stream, here_);
}

void QuantileBias::sum(const Context& ctx, Communicator& stage) {
  const PhaseScope phase(ctx.clock, Phase::kDispatch);
  all_reduce(stage, host_.span<std::int64_t>());
}

void QuantileBias::set(Tensor bias) const {
  const std::span<const std::int64_t> counts = host_.span<std::int64_t>();
  bias.dtype == DType::kF64 ? set_quantile_bias(counts, top_k_, bias.span<double>())
                            : set_quantile_bias(counts, top_k_, bias.span<float>());
}

}  // namespace jevons
