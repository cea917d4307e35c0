// Sums gradients over ranks and spreads updated weights, per ParamGroup: the only place that knows the ZeRO
// stage (Rajbhandari et al., arXiv:1910.02054). Stage 0: every rank holds all sums and updates everything.
// Stage 1: each rank of a group's communicator receives the sums of its shard, updates that, and the weights
// are gathered. A step: backward passes, the last with start_unit; start, finish; global_norm; optimizer on
// update_range of each group, which leaves the gradients there 0; zero_others; gather_weights.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "kernels/core/context.h"
#include "parallel/param_store.h"

namespace jevons {

// Elements [begin, begin + numel) of a group's flat buffers. Padding at the end of a group is part of its
// ranges: its gradients are zero and its weights must stay zero.
struct ShardRange {
  std::int64_t begin = 0, numel = 0;
};

class GradSync {
 public:
  // zero_stage 0 or 1; the store must be allocated and outlive this.
  GradSync(ParamStore& store, int zero_stage);

  // The gradients of `unit` and of all later units are complete: starts summing the groups that end with it
  // on the way from the last unit to the first. They must not be touched until finish() returns. Collective.
  void start_unit(const Context& ctx, std::int64_t unit);
  // Starts all other groups.
  void start(const Context& ctx);
  void finish(const Context& ctx);
  // sqrt of the sum of squares of all gradients of the model, every parameter once whatever the layout. After
  // finish().
  double global_norm(const Context& ctx) const;
  // Stage 1: every rank's range of the weights sets out to all; the store waits for a group's when its first
  // weight is asked for. Stage 0: nothing. Collective.
  void gather_weights(const Context& ctx);

  // Zeroes the gradients outside of this rank's update ranges: parts of other ranks' sums.
  void zero_others(const Context& ctx);

  // What this rank's optimizer updates of groups()[group].
  ShardRange update_range(std::size_t group) const;
  int zero_stage() const { return zero_stage_; }

 private:
  void start_group(std::size_t group);

  ParamStore& store_;
  int zero_stage_;
  std::vector<std::optional<Work>> under_way_;  // of each group
  bool all_started_ = false;
};

}  // namespace jevons
