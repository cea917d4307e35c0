// The routed experts of this rank: SwiGLU networks without bias, all in one grouped product per projection.
// The router's weight of a row multiplies h, so that an expert's output is already weighted and nothing of
// size (R, D) but its input is kept; h is made again in backward. Legend: R rows in expert order, e experts
// of this rank, D hidden size, F hidden size of an expert.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "parallel/param_store.h"
#include "trainer/model/layer.h"
#include "trainer/model/model_config.h"

namespace jevons {

class Experts {
 public:
  using Offsets = std::span<const std::int64_t>;  // (e+1) into the R rows

  struct Saved {
    Tensor rows;     // (R, D) input
    Tensor gate_up;  // (R, 2F); backward_input writes its gradient over it
    // From backward_input to backward_weight:
    Tensor dy;  // (R, D)
    Tensor h;   // (R, F) made again, for the gradient of down
  };
  struct Names {
    std::string experts;    // "layers.7.moe.experts"
    std::string dense_ffn;  // "layers.7.ffn": the prefix of their dense counterparts (ParamSpec)
  };
  // Declares experts.G.gate, experts.G.up (F, D) and experts.G.down (D, F) for G = first .. first + count
  // - 1. gate and up of all are neighbours, and so are all down.
  Experts(ParamStore& store, const ModelConfig& config, const Names& names, std::int64_t first,
          std::int64_t count);

  // First half of forward: gate and up of `rows`, in ctx.stash. Recomputation needs no more.
  void expand(const Context& ctx, Offsets offsets, Tensor rows, Saved& saved) const;
  // Second half: row_scale (R) * silu(gate) * up through down; (R, D) in ctx.work.
  Tensor contract(const Context& ctx, Offsets offsets, Tensor row_scale, const Saved& saved) const;

  struct Gradients {
    Tensor rows;       // (R, D)
    Tensor row_scale;  // (R)
  };
  Gradients backward_input(const Context& ctx, Offsets offsets, Tensor dy, Tensor row_scale,
                           Saved& saved) const;
  // offsets (e*sources()+1): rows of an expert are cut by the ep rank that they came from, if the store keeps
  // the gradients of those apart.
  void backward_weight(const Context& ctx, Offsets offsets, const Saved& saved) const;
  std::int64_t sources() const { return store_->expert_sources(); }

 private:
  void backward_weight_apart(const Context& ctx, Offsets offsets, const Saved& saved) const;
  Tensor activate(const Context& ctx, Arena& out, Tensor gate_up, Tensor row_scale) const;
  // As one tensor (e, out, in).
  Tensor stacked(Tensor fused) const {
    return fused.reshape({count_, fused.shape[0] / count_, fused.shape[1]});
  }

  ParamStore* store_;
  std::int64_t count_, hidden_size_;  // e, F
  double swiglu_limit_;
  std::vector<ParamId> gate_up_ids_, down_ids_;
};

}  // namespace jevons
