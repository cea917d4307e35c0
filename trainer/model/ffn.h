// SwiGLU feed-forward network (Shazeer, arXiv:2002.05202): y = (silu(x Wg^T) * x Wu^T) Wd^T. Used as the FFN
// of dense layers and as the shared expert of MoE layers. Tensor parallel: gate and up are split by rows of
// the hidden dim, down by columns. Legend: T rows of the micro-batch, S = T / tp rows of this rank, F hidden
// size, Fl = F / tp.
#pragma once

#include <cstdint>
#include <string>

#include "parallel/region.h"
#include "trainer/model/linear.h"
#include "trainer/model/model_config.h"

namespace jevons {

class DenseFfn {
 public:
  // kSelective keeps neither the gathered input nor h; restore() makes them again.
  struct Saved {
    Linear::Saved gate_up;  // x (T, D) gathered over tp
    Tensor gate_up_out;     // (T, 2 Fl): gate, then up
    Linear::Saved down;     // h (T, Fl)
  };
  // Declares name.gate, name.up (F, D) and name.down (D, F).
  DenseFfn(ParamStore& store, const ModelConfig& config, const std::string& name, std::int64_t hidden_size);

  // (S, D) -> (S, D) in ctx.work.
  Tensor forward(const Context& ctx, Tensor x, Saved& saved) const;
  Tensor backward(const Context& ctx, Tensor dy, Saved& saved) const;
  // Makes what is missing in `saved` again, in ctx.work, from forward's input x: gathered x and h
  // (kSelective), or everything that backward needs when `saved` is empty (kFull). Without the product with
  // down.
  void restore(const Context& ctx, Tensor x, Saved& saved) const;

 private:
  Tensor activate(const Context& ctx, Tensor gate_up) const;

  Gather gather_;
  ReduceScatter reduce_scatter_;
  Linear gate_up_, down_;
  bool selective_;
};

}  // namespace jevons
