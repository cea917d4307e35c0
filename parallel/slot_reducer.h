// In GradSync's place where sums must not depend on the layout (numerics: layout_invariant): the gradients
// of every slot, one sequence of the global batch, are taken apart and added in a SlotSum's fixed tree,
// first on this rank, then over ranks. A step: begin; backward of one slot, take, for every round; finish;
// global_norm. Afterwards the store holds what GradSync::finish would leave. tp, pp and cp are 1.
#pragma once

#include <cstdint>
#include <vector>

#include "parallel/param_store.h"
#include "parallel/slot_sum.h"

namespace jevons {

class SlotReducer {
 public:
  // The store must be allocated with GradSources::kApart and outlive this. zero_stage: as GradSync's.
  SlotReducer(ParamStore& store, int zero_stage);

  // A step of `slots` slots; this rank computes the n = slots / ranks ones from rank * n on.
  void begin(std::int64_t slots);
  // Takes the store's gradients as those of this rank's slot number `round`, and experts' as those of this
  // slot of every ep rank; leaves zeros.
  void take(const Context& ctx, std::int64_t round);
  // Collective.
  void finish(const Context& ctx);
  // sqrt of the sum of squares of all gradients of the model, with the same bits on every layout. After
  // finish(); collective.
  double global_norm(const Context& ctx) const;
  std::size_t bytes() const;  // of the partial sums

 private:
  // Of one ParamGroup.
  struct Sums {
    SlotSum here;   // of this rank's slots, whole
    SlotSum shard;  // of all slots, this rank's shard
  };
  // Slots whose gradients of `group` the given rank of group.comm computes.
  std::vector<SlotNode> nodes_of_rank(const ParamGroup& group, int rank) const;
  void exchange(const Context& ctx, const ParamGroup& group, Sums& sums) const;

  ParamStore& store_;
  int zero_stage_;
  std::int64_t slots_ = 0;
  std::int64_t squares_block_;
  std::vector<Sums> sums_;
};

}  // namespace jevons
