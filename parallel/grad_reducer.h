// Sums the gradients of a step over ranks and spreads the updated weights, per ParamGroup: the only place
// that knows the ZeRO stage (Rajbhandari et al., arXiv:1910.02054). Stage 0: every rank holds all sums and
// updates everything. Stage 1: each rank of a group's communicator receives the sums of its shard, updates
// that, and the weights are gathered. Two ways to sum: in whole buckets beside the backward pass
// (bucket_reducer.h), or with the same bits on every layout (slot_reducer.h). A step: begin; backward passes,
// each closed by end_pass, the last with start_unit; finish; global_norm; optimizer on update_range of each
// group, which leaves the gradients there 0; zero_others; gather_weights.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "kernels/core/context.h"
#include "parallel/param_store.h"

namespace jevons {

class GradReducer {
 public:
  virtual ~GradReducer() = default;
  GradReducer(const GradReducer&) = delete;
  GradReducer& operator=(const GradReducer&) = delete;

  // A step of `sequences` of the global batch.
  virtual void begin(std::int64_t sequences) = 0;
  // In the last backward pass: the gradients of `unit` and of all later units are complete. What was started
  // must not be touched until finish() returns. Collective.
  virtual void start_unit(const Context& ctx, std::int64_t unit) = 0;
  // The backward pass number `pass` of this rank, from 0 on, is done in the stage of these units.
  virtual void end_pass(const Context& ctx, std::int64_t pass, UnitRange units) = 0;
  // All sums are there, in the store's gradients within update_range, those of copies in their owners'.
  // Collective.
  void finish(const Context& ctx);
  // sqrt of the sum of squares of all gradients of the model, every parameter once whatever the layout. After
  // finish(); collective.
  virtual double global_norm(const Context& ctx) const = 0;
  // Of gradients beside the store's.
  virtual std::size_t bytes() const = 0;

  // What this rank's optimizer updates of groups()[group].
  FlatRange update_range(std::size_t group) const;
  // Zeroes the gradients outside of this rank's update ranges: parts of other ranks' sums.
  void zero_others(const Context& ctx);
  // Stage 1: every rank's range of the weights sets out to all; the store waits for a group's when its first
  // weight is asked for. Before that, on both stages, copies on another rank get theirs. Collective.
  void gather_weights(const Context& ctx);

 protected:
  // zero_stage 0 or 1; the store must be allocated and outlive this.
  GradReducer(ParamStore& store, int zero_stage);
  // Of every group by itself.
  virtual void finish_groups(const Context& ctx) = 0;

  ParamStore& store() const { return store_; }
  int zero_stage() const { return zero_stage_; }
  // This rank's shard of a group's gradients. Over the world the shards have each parameter once, also when
  // stage 0 holds all sums everywhere: those of a group's ranks partition the group, and other tp or ep ranks
  // hold other parameters.
  static Tensor shard_of_grads(const ParamGroup& group);

 private:
  void add_copies(const Context& ctx);
  void send_to_copies();

  ParamStore& store_;
  int zero_stage_;
};

// As the store was allocated: with gradients of sources apart, the sums are the same on every layout.
std::unique_ptr<GradReducer> make_grad_reducer(ParamStore& store, int zero_stage, GradSources sources);

}  // namespace jevons
