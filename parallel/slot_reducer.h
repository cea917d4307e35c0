// Sums that do not depend on the layout (numerics: layout_invariant): the gradients of every slot, one
// sequence of the global batch, are taken apart and added in a SlotSum's fixed tree, first on this rank, then
// over ranks. A pass is one slot. tp and cp are 1.
#pragma once

#include <cstdint>
#include <vector>

#include "parallel/grad_reducer.h"
#include "parallel/slot_sum.h"

namespace jevons {

class SlotReducer final : public GradReducer {
 public:
  // The store must be allocated with GradSources::kApart.
  SlotReducer(ParamStore& store, int zero_stage);

  // This rank computes the n = sequences / ranks slots from rank * n on.
  void begin(std::int64_t sequences) override;
  void start_unit(const Context& ctx, std::int64_t unit) override;
  // Takes the store's gradients of the units as those of this rank's slot number `pass`, and experts' as
  // those of this slot of every ep rank; leaves zeros.
  void end_pass(const Context& ctx, std::int64_t pass, UnitRange units) override;
  double global_norm(const Context& ctx) const override;  // with the same bits on every layout
  std::size_t bytes() const override;                     // of the partial sums

 protected:
  void finish_groups(const Context& ctx) override;

 private:
  // Of one ParamGroup.
  struct Sums {
    SlotSum here;   // of this rank's slots, whole
    SlotSum shard;  // of all slots, this rank's shard
  };
  // Slots whose gradients of `group` the given rank of group.comm computes.
  std::vector<SlotNode> nodes_of_rank(const ParamGroup& group, int rank) const;
  void exchange(const Context& ctx, const ParamGroup& group, Sums& sums) const;

  std::int64_t slots_ = 0;
  std::int64_t squares_block_;
  std::vector<Sums> sums_;
};

}  // namespace jevons
