// The optimizer of one worker: master weights and the rule's state for the flat ranges that GradReducer gives
// this rank. With ZeRO-1 (arXiv:1910.02054) those are shards; the update itself is the same.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/core/context.h"
#include "parallel/grad_reducer.h"
#include "parallel/param_store.h"
#include "trainer/optim/update_rule.h"

namespace jevons {

class Optimizer {
 public:
  // State of one ParamGroup, over `range` of its flat buffers; all accumulator dtype.
  struct GroupState {
    FlatRange range;
    Tensor master;  // the group's weights themselves where those are kept in the accumulator dtype
    std::vector<Tensor> state;  // of the rule, in the order of state_prefixes()
  };

  // The store must be allocated; it must outlive this.
  Optimizer(ParamStore& store, const GradReducer& reducer, const OptimConfig& config);

  // Takes the weights of the store as the starting point. Call after they were initialised.
  void adopt_weights(const Context& ctx);
  // Writes the master weights back into this rank's range of the store's weights, after master was loaded.
  void publish_weights(const Context& ctx) const;

  // One update of this rank's ranges from the summed gradients, which it sets to zero.
  void step(const Context& ctx, const UpdateStep& step);

  std::span<const GroupState> groups() const { return states_; }
  // "optim.m.", ...: with a weight's name behind it, the name of its state in a checkpoint.
  std::span<const std::string> state_prefixes() const { return prefixes_; }
  std::size_t bytes() const;  // of the state and of master weights that are not the store's own

 private:
  // A stretch of a group's range whose parameters share the decay rule.
  struct Run {
    std::int64_t begin = 0, end = 0;  // in the group's flat buffer
    bool decay = false;
  };
  std::vector<Run> runs_of(std::size_t group) const;

  ParamStore& store_;
  std::unique_ptr<const UpdateRule> rule_;
  std::vector<std::string> prefixes_;
  std::vector<GroupState> states_;
  std::vector<std::vector<Run>> runs_;
  std::vector<Buffer> buffers_;
};

}  // namespace jevons
