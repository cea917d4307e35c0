#include "trainer/optim/update_rule.h"

#include <array>

#include "kernels/optimizer.h"

namespace jevons {
namespace {

class AdamWRule final : public UpdateRule {
 public:
  explicit AdamWRule(const OptimConfig& config) : config_(config) {}

  std::span<const char* const> state_names() const override {
    static constexpr std::array kNames = {"m", "v"};  // first and second moment
    return kNames;
  }

  void update(const Context& ctx, const UpdateStep& step, const UpdateRange& range) const override {
    adamw_step(ctx,
               {.lr = step.lr,
                .beta1 = config_.beta1,
                .beta2 = config_.beta2,
                .eps = config_.eps,
                .weight_decay = range.decay ? config_.weight_decay : 0,
                .step = step.step,
                .grad_scale = step.grad_scale},
               {.master = range.master,
                .moment1 = range.state[0],
                .moment2 = range.state[1],
                .grad = range.grad,
                .weight = range.weight});
  }

 private:
  OptimConfig config_;
};

class SgdRule final : public UpdateRule {
 public:
  std::span<const char* const> state_names() const override { return {}; }

  void update(const Context& ctx, const UpdateStep& step, const UpdateRange& range) const override {
    sgd_step(
        ctx, step.lr, step.grad_scale,
        {.master = range.master, .moment1 = {}, .moment2 = {}, .grad = range.grad, .weight = range.weight});
  }
};

}  // namespace

std::unique_ptr<const UpdateRule> make_update_rule(const OptimConfig& config) {
  if (config.kind == OptimizerKind::kSgd) return std::make_unique<SgdRule>();
  return std::make_unique<AdamWRule>(config);
}

}  // namespace jevons
