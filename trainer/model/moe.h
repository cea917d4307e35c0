// Mixture-of-Experts feed-forward layer: route, dispatch, experts, combine, plus a shared expert that every
// token passes through while the others travel (docs/moe.md). Takes the place of DenseFfn in a block. Legend:
// T rows of this rank (disjoint on all ranks, tp included), D hidden size, E experts, K chosen, R rows of
// this rank's experts in one chunk.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "parallel/token_dispatcher.h"
#include "trainer/model/balance.h"
#include "trainer/model/branch.h"
#include "trainer/model/experts.h"
#include "trainer/model/ffn.h"
#include "trainer/model/router.h"

namespace jevons {

class Moe {
 public:
  // Consecutive tokens that travel together, while other chunks are computed.
  struct Chunk {
    std::int64_t first_token = 0;
    DispatchPlan plan;
    Tensor row_weight;  // (R) the router's weight of each expert row
    Experts::Saved experts;

    // Its rows of a tensor of T rows.
    Tensor of(const Tensor& all) const { return all.slice(first_token, first_token + plan.tokens); }
    template <class F>
    void for_each_saved(F f) {
      for (Tensor* t : {&plan.send_index, &plan.expand, &plan.slot_flat, &plan.row_to_wire, &plan.wire_to_row,
                        &plan.slot_row, &plan.reduce_index, &plan.token_row, &plan.dropped, &row_weight}) {
        f(SavedKind::kChoice, *t);
      }
      for (Tensor* t : {&experts.rows, &experts.gate_up}) f(SavedKind::kProduct, *t);
      for (Tensor* t : {&experts.dy, &experts.h}) f(SavedKind::kGradient, *t);
    }
  };
  // Routing, plans and row weights are choices: recomputation never routes again.
  struct Saved {
    Tensor x;  // (T, D), the input itself
    Router::Saved routing;
    std::vector<Chunk> chunks;  // config.moe.dispatch_chunks, together all T tokens
    DenseFfn::Saved shared;
  };
  // Declares layers.N.moe.router, layers.N.moe.experts.G.* of this rank's experts and, with shared experts,
  // layers.N.moe.shared.*.
  Moe(ParamStore& store, const ModelConfig& config, std::int64_t layer);

  // On a GPU, reports of its plans wait in the dispatcher to be looked at.
  Tensor forward(const Keep& keep, Tensor x, const Sequences& sequences, Saved& saved) const;
  void restore(const Context& ctx, Tensor x, Saved& saved) const;
  // Adds this micro-batch to the layer's load and losses, and the gradient of the router's weight. The T rows
  // of all tp ranks together are whole sequences.
  Tensor backward_input(const Context& ctx, Tensor dy, Saved& saved, const LossScales& scales);
  void backward_weight(const Context& ctx, const Saved& saved) const;
  // Both, the experts' weight gradients while their input gradients travel.
  Tensor backward(const Context& ctx, Tensor dy, Saved& saved, const LossScales& scales);
  bool saves_input() const { return true; }

  template <class F>
  static void for_each_saved(Saved& saved, F f) {
    f(SavedKind::kCheap, saved.x);
    RouterOutput& out = saved.routing.out;
    for (Tensor* t : {&saved.routing.logits, &out.scores, &out.indices, &out.weights}) {
      f(SavedKind::kChoice, *t);
    }
    for (Chunk& chunk : saved.chunks) chunk.for_each_saved(f);
    DenseFfn::for_each_saved(saved.shared, f);
  }

  Balance& balance() { return balance_; }
  const TokenDispatcher& dispatcher() const { return dispatcher_; }
  // "layers.N.moe.router.bias" in checkpoints; undefined when there is none.
  Tensor selection_bias() const { return balance_.selection_bias(); }

 private:
  Segments sequences(std::int64_t rows) const;
  // Cuts the routed tokens into chunks and exchanges what goes where.
  std::vector<Chunk> plan(const Context& ctx, const RouterOutput& routed) const;
  // Sends x (T, D) to the experts, chunk by chunk: compute(chunk, rows), rows (R, D) in ctx.stash, runs while
  // the next chunk travels, meanwhile() while the first one does.
  template <class Meanwhile, class Compute>
  void dispatch(const Context& ctx, Tensor x, std::vector<Chunk>& chunks, Meanwhile meanwhile,
                Compute compute) const;
  // What each chunk sent home, summed into its rows of y (T, D).
  void combine(const Context& ctx, const std::vector<Chunk>& chunks, std::vector<TokenDispatcher::Move>& home,
               Tensor y) const;
  enum class WeightHalf { kAtOnce, kLater };
  Tensor backward(const Context& ctx, Tensor dy, Saved& saved, const LossScales& scales, WeightHalf weights);
  Experts::Offsets weight_offsets(const Chunk& chunk) const;
  // d_weights (T, K) of the router's weights.
  Tensor backward_router(const Context& ctx, Tensor d_weights, Saved& saved, const LossScales& scales);

  Communicator* tp_;
  std::int64_t seq_len_, num_chunks_;
  Router router_;
  TokenDispatcher dispatcher_;
  Experts experts_;
  std::optional<DenseFfn> shared_;
  Balance balance_;
};
static_assert(ResidualBranch<Moe>);

}  // namespace jevons
