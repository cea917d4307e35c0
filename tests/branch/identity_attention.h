// A branch for tests: attention that hands its input on. All that a new branch must have is here.
#pragma once

#include "kernels/elementwise.h"
#include "trainer/model/branch.h"

namespace jevons::test {

class IdentityAttention {
 public:
  struct Saved {};

  Tensor forward(const Keep& keep, Tensor x, const Sequences&, Saved&) const {
    return copy_of(keep.cheap, x);
  }
  void restore(const Context&, Tensor, Saved&) const {}
  Tensor backward_input(const Context& ctx, Tensor dy, Saved&, const LossScales&) const {
    return copy_of(ctx, dy);
  }
  void backward_weight(const Context&, const Saved&) const {}
  bool saves_input() const { return false; }
  template <class F>
  static void for_each_saved(Saved&, F) {}

 private:
  static Tensor copy_of(const Context& ctx, Tensor x) {
    const Tensor y = ctx.work->alloc(x.shape, x.dtype);
    copy(ctx, x, y);
    return y;
  }
};
static_assert(ResidualBranch<IdentityAttention>);

}  // namespace jevons::test
