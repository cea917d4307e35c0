// SwiGLU feed-forward network (Shazeer, arXiv:2002.05202): y = (silu(x Wg^T) * x Wu^T) Wd^T. Used as the FFN
// of dense layers and as the shared expert of MoE layers. Tensor parallel: gate and up are split by rows of
// the hidden dim, down by columns. Legend: T rows of the micro-batch, S = T / tp rows of this rank, F hidden
// size, Fl = F / tp.
#pragma once

#include <cstdint>
#include <string>

#include "parallel/region.h"
#include "trainer/model/branch.h"
#include "trainer/model/linear.h"
#include "trainer/model/model_config.h"

namespace jevons {

class DenseFfn {
 public:
  struct Saved {
    Linear::Saved gate_up;  // x (T, D) gathered over tp
    Tensor gate_up_out;     // (T, 2 Fl): gate, then up; backward_input writes its gradient over it
    Linear::Saved down;     // h (T, Fl)
  };
  // Declares name.gate, name.up (F, D) and name.down (D, F).
  DenseFfn(ParamStore& store, const ModelConfig& config, const std::string& name, std::int64_t hidden_size);

  Tensor forward(const Keep& keep, Tensor x, const Sequences& sequences, Saved& saved) const;
  void restore(const Context& ctx, Tensor x, Saved& saved) const;
  Tensor backward_input(const Context& ctx, Tensor dy, Saved& saved, const LossScales& scales) const;
  void backward_weight(const Context& ctx, const Saved& saved) const;
  bool saves_input() const { return gather_.returns_input(); }

  template <class F>
  static void for_each_saved(Saved& saved, F f) {
    f(SavedKind::kProduct, saved.gate_up_out);
    for (Tensor* t : {&saved.gate_up.x, &saved.down.x}) f(SavedKind::kCheap, *t);
    for (Tensor* t : {&saved.gate_up.dy, &saved.down.dy}) f(SavedKind::kGradient, *t);
  }

 private:
  Tensor activate(const Context& ctx, Tensor gate_up) const;

  Gather gather_;
  ReduceScatter reduce_scatter_;
  Linear gate_up_, down_;
  double swiglu_limit_;
};
static_assert(ResidualBranch<DenseFfn>);

}  // namespace jevons
