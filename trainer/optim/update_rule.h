// How summed gradients change weights: the rule of an optimizer, and the state that it keeps of each element.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "kernels/core/context.h"
#include "parallel/param_store.h"
#include "trainer/optim/optim_config.h"

namespace jevons {

// What one update has in common for all weights.
struct UpdateStep {
  double lr = 0;
  double grad_scale = 1;  // multiplies every gradient (global-norm clipping)
  std::int64_t step = 1;  // counts from 1
};

// A stretch of a group's flat buffers, all (n): accumulator dtype, but state, which has the rule's, and
// weight, which has the compute dtype and may be master.
struct UpdateRange {
  Tensor master, grad, weight;
  std::span<const Tensor> state;  // in the order of the rule's names
  bool decay = true;              // weight decay applies
  // Of a rule that goes weight by weight: the range's, and which element of this rank's part is the first.
  const Param* param = nullptr;
  std::int64_t first = 0;
};

class UpdateRule {
 public:
  virtual ~UpdateRule() = default;
  // Of each tensor of state, zero at the start. A checkpoint holds it as optim.<name>.<weight>.
  virtual std::span<const char* const> state_names() const = 0;
  // Of state beside gradients of `accumulator`.
  virtual DType state_dtype(DType accumulator) const { return accumulator; }
  // Whether a range must be of one weight.
  virtual bool by_weight() const { return false; }
  // What comes before update, when matrices are not yet orthogonal: may change the gradient and the state.
  virtual void prepare(const Context&, const UpdateStep&, const UpdateRange&) const {}
  // Updates master, weight and state; sets the gradient to zero.
  virtual void update(const Context& ctx, const UpdateStep& step, const UpdateRange& range) const = 0;
};

// The rules of an optimizer. `seed`: of the random numbers that a rule may use.
struct UpdateRules {
  std::unique_ptr<const UpdateRule> matrices;  // whose gradient is orthogonalised after prepare; or null
  std::unique_ptr<const UpdateRule> others;
};
UpdateRules make_update_rules(const OptimConfig& config, std::uint64_t seed);

}  // namespace jevons
