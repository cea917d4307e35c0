#include "trainer/step/train_step.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/core/error.h"
#include "trainer/step/figure_sums.h"
#include "trainer/step/find_nonfinite.h"

namespace jevons {
namespace {

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

// What the passes of a step read, and whom they tell of their gradients.
PassHooks training_hooks(Worker& worker, const HostBatch& batch) {
  PassHooks hooks = hooks_of(worker, batch);
  hooks.gradients_added = [&](const Stage& stage, std::int64_t i) {
    worker.reducer().end_pass(worker.ctx(), i, stage.units());
  };
  hooks.unit_done = [&](std::int64_t unit) { worker.reducer().start_unit(worker.ctx(), unit); };
  return hooks;
}

// Where NaN or infinity come from. Runs the step again, so after the figures of its layers were taken.
std::string origin_of(Worker& worker, const HostBatch& batch, const LossScales& scales) {
  const RankProgram& program = worker.plan().training(micro_batches_of(worker, batch));
  std::string origin =
      find_nonfinite(worker, {.program = program, .read = hooks_of(worker, batch).read, .scales = scales});
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
    FigureSums sums;
    if (worker.qk_clip()) worker.qk_clip()->begin_step(worker.ctx());
    {
      const PhaseScope phase(worker.ctx().clock, Phase::kCompute);
      forward_backward(worker.ctx(), worker.pipeline(),
                       worker.plan().training(micro_batches_of(worker, batch)), scales,
                       training_hooks(worker, batch));
      sums = take_figures(worker);
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

}  // namespace jevons
