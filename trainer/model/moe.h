// Mixture-of-Experts feed-forward layer: route, dispatch, experts, combine, plus a shared expert that every
// token passes through while the others travel (docs/moe.md). Takes the place of DenseFfn in a block. Legend:
// T rows of this rank (disjoint on all ranks, tp included), D hidden size, E experts, K chosen, R rows of
// this rank's experts.
#pragma once

#include <cstdint>
#include <optional>

#include "parallel/token_dispatcher.h"
#include "trainer/model/balance.h"
#include "trainer/model/experts.h"
#include "trainer/model/ffn.h"
#include "trainer/model/router.h"

namespace jevons {

class Moe {
 public:
  // Routing, plan and row weights are always kept, so that recomputation never routes again. kSelective drops
  // x and what the shared expert drops; kFull also the experts' and the shared expert's activations.
  // restore() makes them again.
  struct Saved {
    Tensor x;  // (T, D), the input itself
    Router::Saved routing;
    DispatchPlan plan;
    Tensor row_weight;  // (R) the router's weight of each expert row
    Experts::Saved experts;
    DenseFfn::Saved shared;
  };
  // Declares layers.N.moe.router, layers.N.moe.experts.G.* of this rank's experts and, with shared experts,
  // layers.N.moe.shared.*.
  Moe(ParamStore& store, const ModelConfig& config, std::int64_t layer);

  // (T, D) -> (T, D) in ctx.work. What is kept goes to ctx.stash in every mode of recompute: hand in the
  // block's own context, also under kFull. x must live until backward, unless restore() is called before it.
  // Has no side effect.
  Tensor forward(const Context& ctx, Tensor x, Saved& saved) const;
  // Makes what forward did not keep again, in ctx.work, from its input and the stored routing.
  void restore(const Context& ctx, Tensor x, Saved& saved) const;
  // Returns the gradient of x in ctx.work and adds this micro-batch to the layer's load and losses. The T
  // rows of all tp ranks together are whole sequences.
  Tensor backward(const Context& ctx, Tensor dy, Saved& saved, const LossScales& scales);

  Balance& balance() { return balance_; }
  // "layers.N.moe.router.bias" in checkpoints; undefined when there is none.
  Tensor selection_bias() const { return balance_.selection_bias(); }

 private:
  Segments sequences(std::int64_t rows) const;
  // Sends x to the experts and starts them; meanwhile() runs while it travels.
  template <class Meanwhile>
  Tensor dispatch(const Context& ctx, Tensor x, Saved& saved, Meanwhile meanwhile) const;
  Tensor backward_router(const Context& ctx, Tensor d_row_weight, Saved& saved, const LossScales& scales);

  Communicator* tp_;
  std::int64_t seq_len_;
  Recompute recompute_;
  Router router_;
  TokenDispatcher dispatcher_;
  Experts experts_;
  std::optional<DenseFfn> shared_;
  Balance balance_;
};

}  // namespace jevons
