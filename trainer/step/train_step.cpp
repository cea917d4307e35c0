#include "trainer/step/train_step.h"

#include "kernels/core/error.h"
#include "kernels/core/exact_sum.h"
#include "kernels/core/whereabouts.h"
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

std::int64_t count_targets(const HostBatch& batch) {
  std::int64_t n = 0;
  for (const std::int32_t t : batch.targets) n += t >= 0 ? 1 : 0;
  return n;
}

// Over all ranks; the same bits however the terms are spread over them. The meta world has nothing to add.
double sum_over_ranks(Communicator& world, ExactSum sum) {
  all_reduce(world, std::span(sum.parts()));
  return sum.value();
}

// The sum over replicas: tp ranks hold the same sequences, which count once.
std::int64_t global_targets(Worker& worker, std::int64_t count) {
  return all_reduce(worker.mesh().replicas(), count);
}

std::optional<double> mean_over(std::int64_t targets, double sum) {
  return targets > 0 ? std::optional(sum / static_cast<double>(targets)) : std::nullopt;
}

LossScales scales_of(const Worker& worker, const StepPosition& position, std::int64_t targets) {
  const RunConfig& c = worker.config();
  const auto sequences = static_cast<double>(position.global_sequences);
  return {.token = targets > 0 ? 1.0 / static_cast<double>(targets) : 0,
          .micro_batch = static_cast<double>(worker.sequences_per_pass()) / sequences,
          .sequence = 1.0 / sequences,
          .position = 1.0 / (sequences * static_cast<double>(c.model.seq_len))};
}

// Waits for the device and looks at what all passes so far left there; returns this rank's part of their loss
// in nats.
ExactSum finish_passes(Worker& worker) {
  Figures& losses = worker.losses();
  losses.fetch(worker.ctx());
  worker.model().fetch_reports(worker.ctx());
  worker.ctx().synchronise();
  worker.model().check_reports();
  ExactSum sum;
  for (std::int64_t i = 0; i < losses.rows(); ++i) sum.add(*losses.row(i).ptr<double>());
  losses.clear();
  return sum;
}

std::vector<Action> schedule_of(const Worker& worker, const HostBatch& batch) {
  return one_stage_schedule(batch.sequences / worker.sequences_per_pass());
}

// What the passes of a step read, and whom they tell of their gradients.
PassHooks hooks_of(Worker& worker, const HostBatch& batch) {
  return {.read = [&](const Context& ctx, std::int64_t i) { return micro_batch(worker, ctx, batch, i); },
          .loss_sum = [&](std::int64_t) { return worker.losses().add_row(worker.ctx()); },
          .gradients_added = [&](std::int64_t i) { worker.reducer().end_pass(worker.ctx(), i); },
          .unit_done = [&](std::int64_t unit) { worker.reducer().start_unit(worker.ctx(), unit); }};
}

// Where NaN or infinity come from. Runs the step again, so after the figures of its layers were taken.
std::string origin_of(Worker& worker, const HostBatch& batch, const LossScales& scales) {
  const std::vector<Action> actions = schedule_of(worker, batch);
  const auto read = [&](const Context& ctx, std::int64_t i) { return micro_batch(worker, ctx, batch, i); };
  std::string origin = find_nonfinite(worker, {.actions = actions, .read = read, .scales = scales});
  worker.model().end_step(worker.ctx(), BiasUpdate::kSkip);
  return origin;
}

// Gradients summed over ranks; returns their global norm. Waiting for the slowest rank is told apart from
// moving bytes.
double sync_gradients(Worker& worker) {
  const Context& ctx = worker.ctx();
  {
    const PhaseScope phase(ctx.clock, Phase::kImbalance);
    worker.mesh().world().barrier();
  }
  const PhaseScope phase(ctx.clock, Phase::kGradSync);
  worker.reducer().finish(ctx);
  return worker.reducer().global_norm(ctx);
}

void update(Worker& worker, const StepPosition& position, double norm) {
  const Context& ctx = worker.ctx();
  const double clip = worker.config().optim.clip_norm;
  {
    const PhaseScope phase(ctx.clock, Phase::kOptimizer);
    const double scale = clip > 0 && norm > clip ? clip / norm : 1;
    worker.optimizer().step(ctx, {.lr = position.lr, .grad_scale = scale, .step = position.optimizer_step});
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

std::optional<double> mean_loss(Worker& worker, std::int64_t rounds,
                                const std::function<void(std::int64_t, HostBatch&)>& fill) {
  const PhaseScope phase(worker.ctx().clock, Phase::kEval);
  const RunConfig& c = worker.config();
  HostBatch batch(c.train.micro_batch_size, c.model.seq_len, worker.ctx().device);
  ExactSum loss_sum;
  std::int64_t targets = 0;
  for (std::int64_t round = 0; round < rounds; ++round) {
    fill(round, batch);
    targets += count_targets(batch);
    for (std::int64_t s = 0; s < batch.sequences; s += worker.sequences_per_pass()) {
      worker.reset_arenas();
      const Tensor loss = worker.losses().add_row(worker.ctx());
      const std::int64_t pass = s / worker.sequences_per_pass();
      worker.model().evaluate(worker.ctx(), micro_batch(worker, worker.ctx(), batch, pass), loss);
    }
    loss_sum.add(finish_passes(worker));
  }
  const double loss = sum_over_ranks(worker.mesh().world(), loss_sum);
  return mean_over(global_targets(worker, targets), loss);
}

}  // namespace

StepOutcome train_step(Worker& worker, const HostBatch& batch, const StepPosition& position) {
  return worker.with_memory_report([&] {
    ENSURE(batch.sequences * worker.dp_size() == position.global_sequences,
           "{} sequences on each of {} ranks, step of {}", batch.sequences, worker.dp_size(),
           position.global_sequences);
    StepOutcome out;
    out.target_tokens = global_targets(worker, count_targets(batch));
    worker.reducer().begin(position.global_sequences);
    const LossScales scales = scales_of(worker, position, out.target_tokens);
    const std::vector<Action> actions = schedule_of(worker, batch);
    ExactSum loss_sum;
    {
      const PhaseScope phase(worker.ctx().clock, Phase::kCompute);
      std::vector<StageInFlight> stages = worker.stages_in_flight(actions);
      forward_backward(worker.ctx(), stages, actions, scales, hooks_of(worker, batch));
      loss_sum = finish_passes(worker);
    }
    out.grad_norm = sync_gradients(worker);
    out.loss = mean_over(out.target_tokens, sum_over_ranks(worker.mesh().world(), loss_sum));
    // Both figures are equal on all ranks, so all take the same way.
    const bool finite = out.is_finite();
    out.spike = finite && out.loss > position.spike_limit;
    out.skipped = !finite || out.spike || !out.loss;
    if (!out.skipped) update(worker, position, out.grad_norm);
    out.layers = worker.model().end_step(worker.ctx(), out.skipped ? BiasUpdate::kSkip : BiasUpdate::kApply);
    if (!finite) out.origin = origin_of(worker, batch, scales);
    if (out.skipped) worker.store().zero_grads(worker.ctx());
    return out;
  });
}

std::optional<double> evaluate(Worker& worker, std::int64_t rounds,
                               const std::function<void(std::int64_t, HostBatch&)>& fill) {
  return worker.with_memory_report([&] { return mean_loss(worker, rounds, fill); });
}

}  // namespace jevons
