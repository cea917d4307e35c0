#include "trainer/step/train_step.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <iterator>
#include <limits>

#include "kernels/core/error.h"
#include "kernels/core/exact_sum.h"
#include "kernels/core/whereabouts.h"
#include "kernels/next_tokens.h"
#include "parallel/host_exchange.h"
#include "trainer/model/balance.h"
#include "trainer/step/find_nonfinite.h"

namespace jevons {
namespace {

// The sequences of a pass, in ctx.stash.
MicroBatch micro_batch(const Worker& worker, const Context& ctx, const HostBatch& batch, std::int64_t pass) {
  const RunConfig& c = worker.config();
  const std::int64_t rows = worker.sequences_per_pass() * c.model.seq_len, begin = pass * rows;
  const auto place = [&](std::span<std::int32_t> data) {
    const Tensor t = ctx.stash->alloc({rows}, DType::kI32);
    copy_async(ctx.stream, t, {data.data() + begin, t.shape, t.dtype, Device::kCpu});
    return t;
  };
  MicroBatch m{.tokens = place(batch.tokens), .targets = place(batch.targets), .doc_start = {}};
  if (c.data.document_mask) m.doc_start = place(batch.doc_start);
  return m;
}

// Target tokens of this worker's batch: of the model, then of each depth of multi-token prediction.
std::vector<std::int64_t> count_targets(const Worker& worker, const HostBatch& batch) {
  const RunConfig& c = worker.config();
  std::vector<std::int64_t> counts = {std::ranges::count_if(batch.targets, [](auto t) { return t >= 0; })};
  std::span<const std::int32_t> doc_start;
  if (c.data.document_mask) doc_start = batch.doc_start;
  for (std::int64_t depth = 0; depth < c.model.mtp.depth; ++depth) {
    counts.push_back(count_targets_ahead(batch.targets, doc_start, {c.model.seq_len, depth + 1}));
  }
  return counts;
}

// The sum over replicas: tp and cp ranks hold the same sequences, which count once.
std::vector<std::int64_t> global_targets(Worker& worker, std::vector<std::int64_t> counts) {
  if (worker.mesh().cp().rank() != 0) std::ranges::fill(counts, 0);
  all_reduce(worker.mesh().replicas(), std::span(counts));
  return counts;
}

using Sums = std::vector<ExactSum>;  // of the model's figures

// Over all ranks; the same bits however the terms are spread over them. The meta world has nothing to add.
std::vector<double> sums_over_ranks(Communicator& world, Sums sums) {
  std::vector<std::int64_t> parts;
  for (ExactSum& sum : sums) std::ranges::copy(sum.parts(), std::back_inserter(parts));
  all_reduce(world, std::span(parts));
  std::vector<double> values;
  for (auto part = parts.begin(); ExactSum & sum : sums) {
    std::copy_n(part, ExactSum::kParts, sum.parts().begin());
    part += ExactSum::kParts;
    values.push_back(sum.value());
  }
  return values;
}

std::optional<double> mean_over(std::int64_t count, double sum) {
  return count > 0 ? std::optional(sum / static_cast<double>(count)) : std::nullopt;
}

// Of each depth, from the figures of the global batch.
std::vector<std::optional<double>> mtp_means(const std::vector<std::int64_t>& targets,
                                             const std::vector<double>& figures) {
  std::vector<std::optional<double>> means;
  for (std::size_t i = 1; i < targets.size(); ++i) means.push_back(mean_over(targets[i], figures[i]));
  return means;
}

Coefficients coefficients_of(const Worker& worker, const StepPosition& position) {
  return position.coefficients.value_or(coefficients_at(worker.config(), 0));
}

LossScales scales_of(const Worker& worker, const StepPosition& position,
                     const std::vector<std::int64_t>& targets) {
  const RunConfig& c = worker.config();
  const auto sequences = static_cast<double>(position.global_sequences);
  const auto over = [](double weight, std::int64_t count) {
    return count > 0 ? weight / static_cast<double>(count) : 0;
  };
  LossScales scales{.token = over(1.0, targets[0]),
                    .micro_batch = static_cast<double>(worker.sequences_per_pass()) / sequences,
                    .sequence = 1.0 / sequences,
                    .position = 1.0 / (sequences * static_cast<double>(c.model.seq_len))};
  const double weight =
      coefficients_of(worker, position).mtp_loss_weight / static_cast<double>(c.model.mtp.depth);
  for (std::size_t i = 1; i < targets.size(); ++i) scales.mtp.push_back(over(weight, targets[i]));
  return scales;
}

// Waits for the device and looks at what all passes so far left there; returns this rank's part of their
// figures.
Sums finish_passes(Worker& worker) {
  Figures& figures = worker.figures();
  figures.fetch(worker.ctx());
  worker.stages().fetch_reports(worker.ctx());
  worker.ctx().synchronise();
  worker.stages().check_reports();
  Sums sums(static_cast<std::size_t>(num_figures(worker.config().model)));
  for (std::int64_t i = 0; i < figures.rows(); ++i) {
    const auto row = figures.row(i).span<double>();
    for (std::size_t f = 0; f < sums.size(); ++f) sums[f].add(row[f]);
  }
  figures.clear();
  return sums;
}

std::int64_t micro_batches_of(const Worker& worker, const HostBatch& batch) {
  return batch.sequences / worker.sequences_per_pass();
}

// What the passes of a step read, and whom they tell of their gradients.
PassHooks hooks_of(Worker& worker, const HostBatch& batch) {
  return {
      .read = [&](const Context& ctx, std::int64_t i) { return micro_batch(worker, ctx, batch, i); },
      .figures = [&](std::int64_t) { return worker.figures().add_row(worker.ctx()); },
      .gradients_added = [&](const Stage& stage,
                             std::int64_t i) { worker.reducer().end_pass(worker.ctx(), i, stage.units()); },
      .unit_done = [&](std::int64_t unit) { worker.reducer().start_unit(worker.ctx(), unit); }};
}

// Where NaN or infinity come from. Runs the step again, so after the figures of its layers were taken.
std::string origin_of(Worker& worker, const HostBatch& batch, const LossScales& scales) {
  const RankProgram& program = worker.plan().training(micro_batches_of(worker, batch));
  const auto read = [&](const Context& ctx, std::int64_t i) { return micro_batch(worker, ctx, batch, i); };
  std::string origin = find_nonfinite(worker, {.program = program, .read = read, .scales = scales});
  worker.stages().end_step(worker.ctx(), BiasUpdate::kSkip);
  return origin;
}

// Gradients summed over ranks; returns their global norm. Waiting for the slowest rank of a stage, and for
// the stages that end later, is told apart from moving bytes.
double sync_gradients(Worker& worker) {
  const Context& ctx = worker.ctx();
  {
    const PhaseScope phase(ctx.clock, Phase::kImbalance);
    worker.mesh().stage().barrier();
  }
  {
    const PhaseScope phase(ctx.clock, Phase::kBubble);
    worker.mesh().pp().barrier();
  }
  const PhaseScope phase(ctx.clock, Phase::kGradSync);
  worker.reducer().finish(ctx);
  return worker.reducer().global_norm(ctx);
}

// It depends on the compiler and means nothing: messages say nan, not -nan.
void forget_sign_of_nan(StepOutcome& out) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  if (std::isnan(out.grad_norm)) out.grad_norm = kNan;
  if (out.loss && std::isnan(*out.loss)) out.loss = kNan;
}

void update(Worker& worker, const StepPosition& position, double norm) {
  const Context& ctx = worker.ctx();
  const double clip = worker.config().optim.clip_norm;
  {
    const PhaseScope phase(ctx.clock, Phase::kOptimizer);
    const double scale = clip > 0 && norm > clip ? clip / norm : 1;
    worker.optimizer().step(ctx, {.lr = position.lr, .grad_scale = scale, .step = position.optimizer_step});
    if (worker.qk_clip()) worker.qk_clip()->apply(ctx, worker.optimizer());
    worker.reducer().zero_others(ctx);
    ctx.synchronise();
  }
  const PhaseScope phase(ctx.clock, Phase::kGradSync);
  worker.reducer().gather_weights(ctx);
  ctx.synchronise();
}

}  // namespace

HostBatch::HostBatch(std::int64_t n, std::int64_t seq_len, Device device)
    : memory(Buffer::pinned_for(device == Device::kCuda ? device : Device::kCpu,
                                static_cast<std::size_t>(3 * n * seq_len) * sizeof(std::int32_t))),
      sequences(n) {
  const Tensor rows = memory.view(0, {3, n * seq_len}, DType::kI32);
  tokens = rows.slice(0, 1).span<std::int32_t>();
  targets = rows.slice(1, 2).span<std::int32_t>();
  doc_start = rows.slice(2, 3).span<std::int32_t>();
}

namespace {

Evaluation mean_figures(Worker& worker, std::int64_t rounds,
                        const std::function<void(std::int64_t, HostBatch&)>& fill) {
  const PhaseScope phase(worker.ctx().clock, Phase::kEval);
  const RunConfig& c = worker.config();
  HostBatch batch(c.train.micro_batch_size, c.model.seq_len, worker.ctx().device);
  Sums sums(static_cast<std::size_t>(num_figures(c.model)));
  std::vector<std::int64_t> targets(static_cast<std::size_t>(1 + c.model.mtp.depth));
  for (std::int64_t round = 0; round < rounds; ++round) {
    fill(round, batch);
    const std::vector<std::int64_t> counts = count_targets(worker, batch);
    std::ranges::transform(targets, counts, targets.begin(), std::plus{});
    forward_only(worker.ctx(), worker.pipeline(), worker.plan().evaluation(micro_batches_of(worker, batch)),
                 hooks_of(worker, batch));
    const Sums of_round = finish_passes(worker);
    for (std::size_t f = 0; f < sums.size(); ++f) sums[f].add(of_round[f]);
  }
  const std::vector<double> figures = sums_over_ranks(worker.mesh().world(), sums);
  targets = global_targets(worker, targets);
  Evaluation result{.loss = mean_over(targets[0], figures[0]),
                    .mtp_losses = mtp_means(targets, figures),
                    .mtp_acceptance = std::nullopt};
  if (c.model.mtp.depth > 0) result.mtp_acceptance = mean_over(targets[1], figures.back());
  return result;
}

}  // namespace

bool StepOutcome::is_finite() const {
  const auto finite = [](const std::optional<double>& figure) { return std::isfinite(figure.value_or(0)); };
  return std::isfinite(grad_norm) && finite(loss) && std::ranges::all_of(mtp_losses, finite);
}

StepOutcome train_step(Worker& worker, const HostBatch& batch, const StepPosition& position) {
  return worker.with_memory_report([&] {
    ENSURE(batch.sequences * worker.dp_size() == position.global_sequences,
           "{} sequences on each of {} ranks, step of {}", batch.sequences, worker.dp_size(),
           position.global_sequences);
    StepOutcome out;
    const std::vector<std::int64_t> targets = global_targets(worker, count_targets(worker, batch));
    out.target_tokens = targets[0];
    worker.reducer().begin(position.global_sequences);
    const LossScales scales = scales_of(worker, position, targets);
    Sums sums;
    if (worker.qk_clip()) worker.qk_clip()->begin_step(worker.ctx());
    {
      const PhaseScope phase(worker.ctx().clock, Phase::kCompute);
      forward_backward(worker.ctx(), worker.pipeline(),
                       worker.plan().training(micro_batches_of(worker, batch)), scales,
                       hooks_of(worker, batch));
      sums = finish_passes(worker);
    }
    out.grad_norm = sync_gradients(worker);
    if (worker.qk_clip()) out.largest_logit = worker.qk_clip()->largest(worker.ctx(), worker.mesh());
    const std::vector<double> figures = sums_over_ranks(worker.mesh().world(), sums);
    out.loss = mean_over(targets[0], figures[0]);
    out.mtp_losses = mtp_means(targets, figures);
    // These figures are equal on all ranks, so all take the same way.
    const bool finite = out.is_finite();
    forget_sign_of_nan(out);
    out.spike = finite && out.loss > position.spike_limit;
    out.skipped = !finite || out.spike || !out.loss;
    if (!out.skipped) update(worker, position, out.grad_norm);
    worker.stages().set_bias_update_rate(coefficients_of(worker, position).bias_update_rate);
    const BiasUpdate biases = out.skipped ? BiasUpdate::kSkip : BiasUpdate::kApply;
    out.layers = gather_layers(worker.mesh().pp(), worker.stages().end_step(worker.ctx(), biases));
    if (!finite) out.origin = origin_of(worker, batch, scales);
    if (out.skipped) worker.store().zero_grads(worker.ctx());
    return out;
  });
}

Evaluation evaluate(Worker& worker, std::int64_t rounds,
                    const std::function<void(std::int64_t, HostBatch&)>& fill) {
  return worker.with_memory_report([&] { return mean_figures(worker, rounds, fill); });
}

}  // namespace jevons
