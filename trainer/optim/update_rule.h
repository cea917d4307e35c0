// How summed gradients change weights: the rule of an optimizer, and the state that it keeps of each element.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "kernels/core/context.h"
#include "trainer/optim/optim_config.h"

namespace jevons {

// What one update has in common for all weights.
struct UpdateStep {
  double lr = 0;
  double grad_scale = 1;  // multiplies every gradient (global-norm clipping)
  std::int64_t step = 1;  // counts from 1
};

// A stretch of a group's flat buffers, all (n): accumulator dtype, but weight, which has the compute dtype
// and may be master.
struct UpdateRange {
  Tensor master, grad, weight;
  std::span<const Tensor> state;  // in the order of the rule's names
  bool decay = true;              // weight decay applies
};

class UpdateRule {
 public:
  virtual ~UpdateRule() = default;
  // Of each tensor of state, zero at the start. A checkpoint holds it as optim.<name>.<weight>.
  virtual std::span<const char* const> state_names() const = 0;
  // Updates master, weight and state; sets the gradient to zero.
  virtual void update(const Context& ctx, const UpdateStep& step, const UpdateRange& range) const = 0;
};

std::unique_ptr<const UpdateRule> make_update_rule(const OptimConfig& config);

}  // namespace jevons
