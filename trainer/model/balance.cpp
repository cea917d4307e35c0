#include "trainer/model/balance.h"

#include <algorithm>
#include <numeric>

#include "kernels/core/error.h"

namespace jevons {
namespace {

// Counts and scores of a few experts are read on the host. On kMeta there is nothing to read.
bool on_host(Device device) {
  if (device == Device::kCuda) fail(ExitCode::kFailure, "expert balance: this build has no CUDA back end");
  return device == Device::kCpu;
}

void all_reduce(const Context& ctx, Communicator& group, Tensor t, ReduceOp op = ReduceOp::kSum) {
  const PhaseScope phase(ctx.clock, Phase::kDispatch);
  group.all_reduce(t, op).wait();
}

// f_i = E * count_i / (number of slots): 1 for every expert at perfect balance.
std::vector<double> load_factors(std::span<const std::int64_t> counts) {
  const auto slots = static_cast<double>(std::accumulate(counts.begin(), counts.end(), std::int64_t{0}));
  std::vector<double> f(counts.size());
  if (slots == 0) return f;
  for (std::size_t i = 0; i < f.size(); ++i) {
    f[i] = static_cast<double>(counts.size()) * static_cast<double>(counts[i]) / slots;
  }
  return f;
}

// Sum over the rows of counts (S, E).
std::vector<std::int64_t> sum_of_segments(Tensor counts) {
  const std::int64_t experts = counts.cols();
  std::vector<std::int64_t> sum(static_cast<std::size_t>(experts));
  for (std::int64_t i = 0; i < counts.numel(); ++i) {
    sum[static_cast<std::size_t>(i % experts)] += counts.ptr<std::int64_t>()[i];
  }
  return sum;
}

}  // namespace

Balance::Balance(ParamStore& store, const MoeConfig& config)
    : config_(config),
      tp_(&store.mesh().tp()),
      tokens_(&store.mesh().tokens()),
      load_(static_cast<std::size_t>(config.router.num_experts)),
      global_load_(load_.size()) {
  if (!config.use_selection_bias) return;
  const DType dtype = accumulator_of(store.compute());
  buffer_ = Buffer(store.device(), load_.size() * size_of(dtype));
  bias_ = buffer_.view(0, {config.router.num_experts}, dtype);
}

bool Balance::has_loss() const {
  return config_.balance_loss != 0 || config_.sequence_balance_loss != 0 || config_.global_balance_loss != 0;
}

Tensor Balance::accumulate(const Context& ctx, const RoutedBatch& batch, const LossScales& scales) {
  const Tensor scores = batch.out.scores;
  sums_.entropy.add(router_entropy(ctx, scores) * scales.position);
  if (config_.z_loss != 0) sums_.z.add(router_z_loss(ctx, batch.logits) * scales.position);
  sums_.dropped.add(static_cast<double>(batch.dropped));
  max_rows_ = std::max(max_rows_, batch.rows);

  const Tensor d_scores = has_loss() ? ctx.work->alloc(scores.shape, scores.dtype) : Tensor{};
  const ArenaScope scope(*ctx.work);
  const Shape per_segment{batch.sequences.count, scores.cols()};
  const Tensor counts = ctx.work->alloc(per_segment, DType::kI64);
  routing_counts(ctx, batch.out.indices, batch.sequences, counts);
  add_load(ctx, counts);
  if (!has_loss()) return {};

  all_reduce(ctx, *tp_, counts);
  const Tensor sums = ctx.work->alloc(per_segment, scores.dtype);
  const Tensor coefficient = ctx.work->alloc(per_segment, scores.dtype);
  score_sums(ctx, scores, batch.sequences, sums);
  if (on_host(scores.device)) {
    scores.dtype == DType::kF64 ? weigh<double>(batch, scales, counts, sums, coefficient)
                                : weigh<float>(batch, scales, counts, sums, coefficient);
  }
  score_sums_backward(ctx, scores, batch.sequences, coefficient, d_scores);
  return d_scores;
}

// counts (S, E) of this rank's rows.
void Balance::add_load(const Context& ctx, Tensor counts) {
  const bool host = on_host(counts.device);
  std::vector<std::int64_t> micro_batch(load_.size());
  if (host) micro_batch = sum_of_segments(counts);
  std::ranges::transform(load_, micro_batch, load_.begin(), std::plus<>());
  if (config_.global_balance_loss == 0) return;
  const ArenaScope scope(*ctx.work);
  const Tensor all = ctx.work->alloc({counts.cols()}, DType::kI64);
  if (host) std::ranges::copy(micro_batch, all.ptr<std::int64_t>());
  all_reduce(ctx, *tokens_, all);
  for (std::size_t i = 0; host && i < global_load_.size(); ++i) global_load_[i] += all.ptr<std::int64_t>()[i];
}

// Writes d loss / d score sum to coefficient (S, E), and adds this rank's share of the losses: they are
// linear in the score sums, so the shares of tp ranks add up. counts (S, E) of all tp ranks, score_sums (S,
// E) of this rank's rows.
template <class A>
void Balance::weigh(const RoutedBatch& batch, const LossScales& scales, Tensor counts, Tensor score_sums,
                    Tensor coefficient) {
  const auto sequence_len = static_cast<double>(batch.sequences.segment_len);
  const double per_row = scales.micro_batch / (sequence_len * static_cast<double>(batch.sequences.count));
  const double per_sequence_row = scales.sequence / sequence_len;
  const auto experts = static_cast<std::size_t>(counts.cols());
  const std::vector<double> micro_batch = load_factors(sum_of_segments(counts)),
                            global = load_factors(global_load_);
  double micro_batch_sum = 0, global_sum = 0, sequence_sum = 0;
  for (std::int64_t s = 0; s < batch.sequences.count; ++s) {
    const std::vector<double> sequence = load_factors(counts.slice(s, s + 1).span<std::int64_t>());
    const A* const p = score_sums.slice(s, s + 1).ptr<A>();
    A* const out = coefficient.slice(s, s + 1).ptr<A>();
    for (std::size_t i = 0; i < experts; ++i) {
      out[i] = static_cast<A>(
          per_row * (config_.balance_loss * micro_batch[i] + config_.global_balance_loss * global[i]) +
          per_sequence_row * config_.sequence_balance_loss * sequence[i]);
      const auto sum = static_cast<double>(p[i]);
      micro_batch_sum += per_row * micro_batch[i] * sum;
      global_sum += per_row * global[i] * sum;
      sequence_sum += per_sequence_row * sequence[i] * sum;
    }
  }
  sums_.micro_batch.add(micro_batch_sum);
  sums_.global.add(global_sum);
  sums_.sequence.add(sequence_sum);
}

std::vector<LayerHealth> Balance::end_step(const Context& ctx, std::span<Balance* const> layers,
                                           BiasUpdate update) {
  if (layers.empty()) return {};
  const auto count = std::ssize(layers), experts = std::ssize(layers[0]->load_);
  const ArenaScope scope(*ctx.work);
  const Tensor load = ctx.work->alloc({count, experts}, DType::kI64);
  const Tensor max_rows = ctx.work->alloc({count}, DType::kI64);
  const Tensor sums = ctx.work->alloc({count, kSumParts}, DType::kI64);
  const bool host = on_host(load.device);
  for (std::int64_t l = 0; host && l < count; ++l) {
    Balance& layer = *layers[static_cast<std::size_t>(l)];
    ENSURE(std::ssize(layer.load_) == experts, "layers of {} and {} experts", layer.load_.size(), experts);
    std::ranges::copy(layer.load_, load.ptr<std::int64_t>() + l * experts);
    std::int64_t* part = sums.ptr<std::int64_t>() + l * kSumParts;
    for (ExactSum* sum : layer.sums_.all()) part = std::ranges::copy(sum->parts(), part).out;
    max_rows.ptr<std::int64_t>()[l] = layer.max_rows_;
  }
  Communicator& tokens = *layers[0]->tokens_;
  all_reduce(ctx, tokens, load);
  all_reduce(ctx, tokens, sums);
  all_reduce(ctx, tokens, max_rows, ReduceOp::kMax);

  std::vector<LayerHealth> health(layers.size());
  for (std::int64_t l = 0; host && l < count; ++l) {
    Sums all;
    const std::int64_t* part = sums.ptr<std::int64_t>() + l * kSumParts;
    for (ExactSum* sum : all.all())
      std::ranges::copy_n(part, ExactSum::kParts, sum->parts().begin()), part += ExactSum::kParts;
    health[static_cast<std::size_t>(l)] = layers[static_cast<std::size_t>(l)]->finish(
        {load.ptr<std::int64_t>() + l * experts, static_cast<std::size_t>(experts)}, all,
        max_rows.ptr<std::int64_t>()[l], update);
  }
  return health;
}

LayerHealth Balance::finish(std::span<const std::int64_t> load, const Sums& sums, std::int64_t max_rows,
                            BiasUpdate update) {
  const auto slots = static_cast<double>(std::accumulate(load.begin(), load.end(), std::int64_t{0}));
  const double mean = slots / static_cast<double>(load.size());
  LayerHealth health;
  if (mean > 0) health.max_over_mean = static_cast<double>(*std::ranges::max_element(load)) / mean;
  health.dead_experts = std::ranges::count(load, 0);
  health.router_entropy = sums.entropy.value();
  health.dropped_slots = static_cast<std::int64_t>(sums.dropped.value());
  health.load.assign(load.begin(), load.end());
  health.max_rows = max_rows;
  if (config_.balance_loss != 0) health.micro_batch_balance = sums.micro_batch.value();
  if (config_.sequence_balance_loss != 0) health.sequence_balance = sums.sequence.value();
  if (config_.global_balance_loss != 0) health.global_balance = sums.global.value();
  health.z_loss = sums.z.value();

  if (update == BiasUpdate::kApply && bias_.defined()) move_bias(load, mean);
  std::ranges::fill(load_, 0);
  std::ranges::fill(global_load_, 0);
  sums_ = {};
  max_rows_ = 0;
  return health;
}

// bias_i += rate * sign(mean load - load_i).
void Balance::move_bias(std::span<const std::int64_t> load, double mean) {
  const auto move = [&](auto* bias) {
    for (std::size_t i = 0; i < load.size(); ++i) {
      const double missing = mean - static_cast<double>(load[i]);
      const double step = missing > 0   ? config_.bias_update_rate
                          : missing < 0 ? -config_.bias_update_rate
                                        : 0;
      bias[i] += static_cast<std::remove_reference_t<decltype(*bias)>>(step);
    }
  };
  bias_.dtype == DType::kF64 ? move(bias_.ptr<double>()) : move(bias_.ptr<float>());
}

}  // namespace jevons
