#include "trainer/optim/update_rule.h"

#include <fmt/format.h>

#include <array>
#include <optional>

#include "kernels/optimizer.h"

namespace jevons {
namespace {

// A rule with moments, in the dtype and with the rounding that the configuration says.
class MomentRule : public UpdateRule {
 public:
  MomentRule(const OptimConfig& config, std::uint64_t seed) : config_(config), seed_(seed) {}

  DType state_dtype(DType accumulator) const override {
    return config_.moments == MomentKind::kF32 ? accumulator : DType::kBF16;
  }
  bool by_weight() const override { return config_.moments == MomentKind::kBF16Stochastic; }

 protected:
  const OptimConfig& config() const { return config_; }
  // Other numbers for each weight and step, the same on every layout.
  std::optional<RandomRounding> rounding(const UpdateStep& step, const UpdateRange& range) const {
    if (!by_weight()) return std::nullopt;
    const Param& param = *range.param;
    const bool matrix = param.spec.shape.ndim() == 2;
    RandomRounding r{.random = {seed_, fmt::format("moments of {}, step {}", param.spec.name, step.step)},
                     .begin = range.first};
    if (matrix) r.cols = param.local_shape[1], r.global_cols = param.spec.shape[1];
    r.first = param.spec.tp_dim == 0 ? param.tp_offset * r.global_cols : param.tp_offset;
    return r;
  }

 private:
  OptimConfig config_;
  std::uint64_t seed_;
};

class AdamWRule final : public MomentRule {
 public:
  using MomentRule::MomentRule;

  std::span<const char* const> state_names() const override {
    static constexpr std::array kNames = {"m", "v"};  // first and second moment
    return kNames;
  }

  void update(const Context& ctx, const UpdateStep& step, const UpdateRange& range) const override {
    adamw_step(ctx,
               {.lr = step.lr,
                .beta1 = config().beta1,
                .beta2 = config().beta2,
                .eps = config().eps,
                .weight_decay = range.decay ? config().weight_decay : 0,
                .step = step.step,
                .grad_scale = step.grad_scale},
               {.master = range.master,
                .moment1 = range.state[0],
                .moment2 = range.state[1],
                .grad = range.grad,
                .weight = range.weight,
                .rounding = rounding(step, range)});
  }
};

// Muon: the momentum takes the gradient's place, to be orthogonalised there; then plain descent.
class MuonRule final : public MomentRule {
 public:
  using MomentRule::MomentRule;

  std::span<const char* const> state_names() const override {
    static constexpr std::array kNames = {"momentum"};
    return kNames;
  }

  void prepare(const Context& ctx, const UpdateStep& step, const UpdateRange& range) const override {
    momentum_step(ctx,
                  {.momentum = config().muon.momentum,
                   .grad_scale = step.grad_scale,
                   .nesterov = config().muon.nesterov},
                  {.master = {},
                   .moment1 = range.state[0],
                   .moment2 = {},
                   .grad = range.grad,
                   .weight = {},
                   .rounding = rounding(step, range)});
  }

  void update(const Context& ctx, const UpdateStep& step, const UpdateRange& range) const override {
    sgd_step(
        ctx, {.lr = step.lr, .weight_decay = config().weight_decay},
        {.master = range.master, .moment1 = {}, .moment2 = {}, .grad = range.grad, .weight = range.weight});
  }
};

class SgdRule final : public UpdateRule {
 public:
  std::span<const char* const> state_names() const override { return {}; }

  void update(const Context& ctx, const UpdateStep& step, const UpdateRange& range) const override {
    sgd_step(
        ctx, {.lr = step.lr, .grad_scale = step.grad_scale},
        {.master = range.master, .moment1 = {}, .moment2 = {}, .grad = range.grad, .weight = range.weight});
  }
};

}  // namespace

UpdateRules make_update_rules(const OptimConfig& config, std::uint64_t seed) {
  UpdateRules rules;
  if (config.kind == OptimizerKind::kMuon) rules.matrices = std::make_unique<MuonRule>(config, seed);
  if (config.kind == OptimizerKind::kSgd) {
    rules.others = std::make_unique<SgdRule>();
  } else {
    rules.others = std::make_unique<AdamWRule>(config, seed);
  }
  return rules;
}

}  // namespace jevons
