#include "trainer/model/embedding.h"

#include "kernels/embedding.h"

namespace jevons {

Embedding::Embedding(ParamStore& store, const ModelConfig& config, Tie tie)
    : store_(&store),
      reduce_scatter_(store.mesh().tp()),
      id_(store.add({.name = "embedding",
                     .shape = {config.vocab_size, config.hidden_size},
                     .tp_dim = 0,
                     .init_std = config.init_std,
                     .role = config.tie_embeddings ? ParamRole::kHead : ParamRole::kEmbedding,
                     .tie = tie})) {}

Tensor Embedding::forward(const Context& ctx, Tensor tokens, Saved& saved) const {
  saved.tokens = tokens;
  const ArenaScope scope(*ctx.work);
  // Over a group of one the region returns the partial sums as they are, so they must already lie in the
  // stash.
  Arena& partial_arena = reduce_scatter_.returns_input() ? *ctx.stash : *ctx.work;
  const Tensor table = store_->weight(id_);
  const Tensor partial = partial_arena.alloc({tokens.shape[0], table.shape[1]}, table.dtype);
  embedding_forward(ctx, tokens, table, store_->params()[id_].tp_offset, partial);
  return reduce_scatter_.forward(ctx, partial, *ctx.stash);
}

Tensor Embedding::backward_input(const Context& ctx, Tensor dy, Saved& saved) const {
  saved.dy = reduce_scatter_.backward(ctx, dy, *ctx.stash);
  return {};
}

void Embedding::backward_weight(const Context& ctx, const Saved& saved) const {
  embedding_backward(ctx, saved.dy, saved.tokens, store_->params()[id_].tp_offset, store_->grad(id_));
}

}  // namespace jevons
