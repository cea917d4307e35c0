#include "trainer/config/optim_section.h"

namespace jevons {
namespace {

constexpr Choice<OptimizerKind> kOptimizers[] = {
    {OptimizerKind::kAdamW, "adamw"}, {OptimizerKind::kSgd, "sgd"}, {OptimizerKind::kMuon, "muon"}};
constexpr Choice<NewtonSchulz> kIterations[] = {{NewtonSchulz::kFive, "five"},
                                                {NewtonSchulz::kEightAndTwo, "eight_and_two"}};
constexpr Choice<MomentKind> kMoments[] = {
    {MomentKind::kF32, "f32"}, {MomentKind::kBF16, "bf16"}, {MomentKind::kBF16Stochastic, "bf16_stochastic"}};
constexpr Choice<ScheduleKind> kSchedules[] = {{ScheduleKind::kConstant, "constant"},
                                               {ScheduleKind::kCosine, "cosine"},
                                               {ScheduleKind::kWarmupStableDecay, "warmup_stable_decay"},
                                               {ScheduleKind::kStages, "stages"}};
constexpr Choice<StageShape> kShapes[] = {
    {StageShape::kConstant, "constant"}, {StageShape::kLinear, "linear"}, {StageShape::kCosine, "cosine"}};

// Of a moment m = beta m + (1 - beta) g in bf16: a step that changes m by less than 2^-9 of it is lost.
constexpr double kMostDecay = 0.95;

void check_moments(const OptimConfig& optim, Rules& rules) {
  const std::string moments = "optimizer.moments", kind = "optimizer.kind";
  if (optim.moments == MomentKind::kF32) return;
  rules.require(
      {moments, kind}, [&] { return optim.kind != OptimizerKind::kSgd; },
      "optimizer.moments: optimizer.kind = sgd has none");
  if (optim.moments == MomentKind::kBF16Stochastic) return;
  const auto follows = [&](const char* key, double decay) {
    rules.require(
        {moments, key}, [&] { return decay <= kMostDecay; },
        "optimizer.moments = bf16 loses changes of less than 1/512, and with {} = {} above {} a moment would "
        "stand still; use bf16_stochastic",
        key, decay, kMostDecay);
  };
  follows("optimizer.beta1", optim.beta1);
  follows("optimizer.beta2", optim.beta2);
  if (optim.kind == OptimizerKind::kMuon) follows("optimizer.muon.momentum", optim.muon.momentum);
}

void check_stages(const OptimConfig& optim, Rules& rules) {
  const bool by_stages = optim.schedule == ScheduleKind::kStages;
  const std::string stages = "schedule.stages", kind = "schedule.kind";
  rules.require(
      {stages, kind}, [&] { return optim.stages.empty() != by_stages; },
      "schedule.stages and schedule.kind = stages belong together");
  if (!by_stages) return;
  rules.require(
      {"schedule.warmup_steps", kind}, [&] { return optim.warmup_steps == 0; },
      "schedule.warmup_steps = {}: with schedule.kind = stages the warm-up is a stage, {{shape: linear}}",
      optim.warmup_steps);
  for (std::size_t i = 0; i < optim.stages.size(); ++i) {
    const LearningStage& stage = optim.stages[i];
    const std::string key = fmt::format("schedule.stages.{}", i);
    const int ends = (stage.until_steps > 0 ? 1 : 0) + (stage.until_tokens > 0 ? 1 : 0);
    const bool last = i + 1 == optim.stages.size();
    rules.require(
        {stages, key}, [&] { return ends == 1 || (last && ends == 0); },
        "{} needs one of until_steps and until_tokens{}", key, last ? ", or neither" : "");
  }
}

void check_changes(const OptimConfig& optim, Rules& rules) {
  for (std::size_t i = 0; i < optim.changes.size(); ++i) {
    const ScheduledChange& change = optim.changes[i];
    const std::string key = fmt::format("schedule.changes.{}", i);
    rules.require(
        {"schedule.changes", key},
        [&] { return change.mtp_loss_weight >= 0 || change.bias_update_rate >= 0; }, "{} changes nothing",
        key);
    rules.require(
        {"schedule.changes", key},
        [&] { return i == 0 || optim.changes[i - 1].from_tokens < change.from_tokens; },
        "{}.from_tokens = {} is not above that of the change before", key, change.from_tokens);
  }
}

}  // namespace

void carry(Bridge optimizer, Bridge schedule, OptimConfig& optim) {
  optimizer("kind", optim.kind, kOptimizers);
  optimizer("lr", optim.lr);
  optimizer("beta1", optim.beta1);
  optimizer("beta2", optim.beta2);
  optimizer("eps", optim.eps);
  optimizer("weight_decay", optim.weight_decay);
  optimizer("clip_norm", optim.clip_norm);
  optimizer("moments", optim.moments, kMoments);
  Bridge muon = optimizer.section("muon");
  muon("momentum", optim.muon.momentum);
  muon("nesterov", optim.muon.nesterov);
  muon("iterations", optim.muon.iterations, kIterations);
  muon("update_rms", optim.muon.update_rms);
  optimizer("qk_clip", optim.qk_clip);
  schedule("kind", optim.schedule, kSchedules);
  schedule("warmup_steps", optim.warmup_steps);
  schedule("decay_steps", optim.decay_steps);
  schedule("min_lr_ratio", optim.min_lr_ratio);
  schedule.list("stages", optim.stages, [](Bridge b, LearningStage& stage) {
    b("shape", stage.shape, kShapes);
    b("ratio", stage.ratio);
    b("until_steps", stage.until_steps);
    b("until_tokens", stage.until_tokens);
  });
  schedule.list("changes", optim.changes, [](Bridge b, ScheduledChange& change) {
    b("from_tokens", change.from_tokens);
    b("mtp_loss_weight", change.mtp_loss_weight);
    b("bias_update_rate", change.bias_update_rate);
  });
}

void check(const OptimConfig& optim, Rules& rules) {
  rules.require(
      {"schedule.kind", "schedule.decay_steps"},
      [&] { return optim.schedule != ScheduleKind::kWarmupStableDecay || optim.decay_steps > 0; },
      "schedule.kind = warmup_stable_decay needs schedule.decay_steps");
  check_moments(optim, rules);
  check_stages(optim, rules);
  check_changes(optim, rules);
}

}  // namespace jevons
