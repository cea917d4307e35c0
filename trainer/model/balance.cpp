#include "trainer/model/balance.h"

#include <algorithm>
#include <iterator>
#include <numeric>

#include "kernels/core/error.h"
#include "kernels/elementwise.h"
#include "kernels/moe/balance.h"
#include "parallel/host_exchange.h"

namespace jevons {
namespace {

void all_reduce(const Context& ctx, Communicator& group, Tensor t, ReduceOp op = ReduceOp::kSum) {
  const PhaseScope phase(ctx.clock, Phase::kDispatch);
  group.all_reduce(t, op).wait();
}

}  // namespace

Balance::Tally::Tally(Buffer buffer, std::int64_t experts, DType bias_dtype) : memory(std::move(buffer)) {
  counts = memory.view(0, {2 * experts + 1}, DType::kI64);
  load = counts.slice(0, experts);
  global_load = counts.slice(experts, 2 * experts);
  dropped = counts.slice(2 * experts, 2 * experts + 1);
  bias = memory.view(counts.bytes(), {experts}, bias_dtype);
}

std::size_t Balance::Tally::bytes_for(std::int64_t experts) {
  return static_cast<std::size_t>(3 * experts + 1) * sizeof(std::int64_t);
}

Balance::Balance(ParamStore& store, const MoeConfig& config)
    : config_(config),
      tp_(&store.mesh().tp()),
      cp_(&store.mesh().cp()),
      stage_(&store.mesh().stage()),
      figures_(store.device(), DType::kF64, kNumFigures) {
  const std::int64_t experts = config.router.num_experts;
  const DType dtype = accumulator_of(store.compute());
  const Device device = store.device(), host = device == Device::kMeta ? Device::kCpu : device;
  here_ = Tally(Buffer(device, Tally::bytes_for(experts)), experts, dtype);
  host_ = Tally(Buffer::pinned_for(host, Tally::bytes_for(experts)), experts, dtype);
  if (config_.use_selection_bias && config_.bias_rule == BiasRule::kQuantile) {
    quantile_.emplace(device, experts, config_.router.top_k);
  }
}

bool Balance::has_loss() const {
  return config_.balance_loss != 0 || config_.sequence_balance_loss != 0 || config_.global_balance_loss != 0;
}

Tensor Balance::accumulate(const Context& ctx, const RoutedBatch& batch, const LossScales& scales) {
  const Tensor scores = batch.out.scores;
  const Tensor figures = figures_.add_row(ctx);
  router_entropy(ctx, scores, scales.position, figures.slice(kEntropy, kEntropy + 1));
  if (config_.z_loss != 0) router_z_loss(ctx, batch.logits, scales.position, figures.slice(kZ, kZ + 1));
  for (const Tensor& dropped : batch.dropped) add_counts(ctx, dropped.reshape({1, 1}), here_.dropped);
  max_rows_ = std::max(max_rows_, batch.rows);

  const Tensor d_scores = has_loss() ? ctx.work->alloc(scores.shape, scores.dtype) : Tensor{};
  const ArenaScope scope(*ctx.work);
  const Shape per_segment{batch.sequences.count, scores.cols()};
  const Tensor counts = ctx.work->alloc(per_segment, DType::kI64);
  routing_counts(ctx, batch.out.indices, batch.sequences, counts);
  add_counts(ctx, counts, here_.load);
  if (quantile_) quantile_->count(ctx, scores, batch.out.indices, here_.bias);
  if (config_.global_balance_loss != 0) add_global_load(ctx, counts);
  if (!has_loss()) return {};

  for (Communicator* group : {tp_, cp_}) all_reduce(ctx, *group, counts);
  const Tensor sums = ctx.work->alloc(per_segment, scores.dtype);
  const Tensor coefficient = ctx.work->alloc(per_segment, scores.dtype);
  score_sums(ctx, scores, batch.sequences, sums);
  const BalanceLoads loads{
      .sequence = counts, .micro_batch = sum_of_segments(ctx, counts), .global = here_.global_load};
  // This rank's share of the losses: they are linear in the score sums, so those of tp and cp ranks add up.
  balance_weights(ctx, loads, factors(batch.sequences, scales), sums, coefficient,
                  figures.slice(kMicroBatch, kGlobal + 1));
  score_sums_backward(ctx, scores, batch.sequences, coefficient, d_scores);
  return d_scores;
}

// (E) of counts (S, E), in ctx.work.
Tensor Balance::sum_of_segments(const Context& ctx, Tensor counts) {
  const Tensor sum = ctx.work->alloc({counts.cols()}, DType::kI64);
  fill_zero(ctx, sum);
  add_counts(ctx, counts, sum);
  return sum;
}

// counts (S, E) of this rank's rows.
void Balance::add_global_load(const Context& ctx, Tensor counts) {
  const ArenaScope scope(*ctx.work);
  const Tensor all = sum_of_segments(ctx, counts);
  all_reduce(ctx, *stage_, all);
  add_counts(ctx, all.reshape({1, all.numel()}), here_.global_load);
}

BalanceFactors Balance::factors(const Segments& sequences, const LossScales& scales) const {
  const auto length = static_cast<double>(sequences.segment_len * cp_->size());
  return {.per_row = scales.micro_batch / (length * static_cast<double>(sequences.count)),
          .per_sequence_row = scales.sequence / length,
          .micro_batch = config_.balance_loss,
          .sequence = config_.sequence_balance_loss,
          .global = config_.global_balance_loss};
}

std::vector<LayerHealth> Balance::end_step(const Context& ctx, std::span<Balance* const> layers,
                                           BiasUpdate update) {
  if (layers.empty()) return {};
  for (Balance* layer : layers) {
    copy_async(ctx.stream, layer->host_.counts, layer->here_.counts);
    copy_async(ctx.stream, layer->host_.bias, layer->here_.bias);
    zero_async(ctx.stream, layer->here_.counts);
    layer->figures_.fetch(ctx);
    if (layer->quantile_) layer->quantile_->fetch(ctx);
  }
  ctx.synchronise();

  const std::int64_t experts = layers[0]->here_.load.numel();
  std::vector<std::int64_t> load, sums, dropped, max_rows;
  for (const Balance* layer : layers) {
    const auto own = layer->host_.load.span<std::int64_t>();
    ENSURE(std::ssize(own) == experts, "layers of {} and {} experts", own.size(), experts);
    load.insert(load.end(), own.begin(), own.end());
    for (ExactSum& sum : layer->sums()) std::ranges::copy(sum.parts(), std::back_inserter(sums));
    dropped.push_back(*layer->host_.dropped.ptr<std::int64_t>());
    max_rows.push_back(layer->max_rows_);
  }
  Communicator& stage = *layers[0]->stage_;
  all_reduce(ctx, stage, host_tensor(std::span(load)));
  all_reduce(ctx, stage, host_tensor(std::span(sums)));
  all_reduce(ctx, stage, host_tensor(std::span(dropped)));
  all_reduce(ctx, stage, host_tensor(std::span(max_rows)), ReduceOp::kMax);
  for (Balance* layer : layers) {
    if (layer->quantile_) layer->quantile_->sum(ctx, stage);
  }

  std::vector<LayerHealth> health(layers.size());
  if (ctx.device == Device::kMeta) return health;
  auto part = sums.begin();
  for (std::size_t l = 0; l < layers.size(); ++l) {
    const auto width = static_cast<std::size_t>(experts);
    Totals totals{
        .load = {load.data() + l * width, width}, .sums = {}, .dropped = dropped[l], .max_rows = max_rows[l]};
    for (ExactSum& sum : totals.sums) {
      std::ranges::copy_n(part, ExactSum::kParts, sum.parts().begin());
      part += ExactSum::kParts;
    }
    health[l] = layers[l]->finish(ctx, totals, update);
  }
  return health;
}

Balance::Sums Balance::sums() const {
  Sums sums;
  for (std::int64_t m = 0; m < figures_.rows(); ++m) {
    const auto row = figures_.row(m).span<double>();
    for (std::size_t i = 0; i < sums.size(); ++i) sums[i].add(row[i]);
  }
  return sums;
}

LayerHealth Balance::finish(const Context& ctx, const Totals& totals, BiasUpdate update) {
  const std::span<const std::int64_t> load = totals.load;
  const auto slots = static_cast<double>(std::accumulate(load.begin(), load.end(), std::int64_t{0}));
  const double mean = slots / static_cast<double>(load.size());
  LayerHealth health;
  if (mean > 0) health.max_over_mean = static_cast<double>(*std::ranges::max_element(load)) / mean;
  health.dead_experts = std::ranges::count(load, 0);
  health.dropped_slots = totals.dropped;
  health.load.assign(load.begin(), load.end());
  health.max_rows = totals.max_rows;
  health.router_entropy = totals.sums[kEntropy].value();
  const auto loss = [&](Figure figure, double coefficient) {
    return coefficient != 0 ? std::optional(totals.sums[figure].value()) : std::nullopt;
  };
  health.micro_batch_balance = loss(kMicroBatch, config_.balance_loss);
  health.sequence_balance = loss(kSequence, config_.sequence_balance_loss);
  health.global_balance = loss(kGlobal, config_.global_balance_loss);
  health.z_loss = loss(kZ, config_.z_loss);

  if (update == BiasUpdate::kApply && quantile_) {
    quantile_->set(host_.bias);
    copy_async(ctx.stream, here_.bias, host_.bias);
  } else if (update == BiasUpdate::kApply && config_.use_selection_bias) {
    here_.bias.dtype == DType::kF64 ? move_bias<double>(ctx, load, mean) : move_bias<float>(ctx, load, mean);
  }
  max_rows_ = 0;
  figures_.clear();
  return health;
}

// bias_i += rate * sign(mean load - load_i). The host's copy stays untouched until the next step's end.
template <class A>
void Balance::move_bias(const Context& ctx, std::span<const std::int64_t> load, double mean) {
  const std::span<A> bias = host_.bias.span<A>();
  for (std::size_t i = 0; i < load.size(); ++i) {
    const double missing = mean - static_cast<double>(load[i]);
    const double step = missing > 0 ? config_.bias_update_rate : missing < 0 ? -config_.bias_update_rate : 0;
    bias[i] += static_cast<A>(step);
  }
  copy_async(ctx.stream, here_.bias, host_.bias);
}

}  // namespace jevons
