#include "trainer/model/mtp.h"

#include <fmt/core.h>

#include "kernels/core/profile_range.h"
#include "kernels/elementwise.h"

namespace jevons {

Mtp::Mtp(ParamStore& store, const ModelConfig& config, const RopeTable& rope, const Embedding& embedding,
         const VocabHead& head)
    : store_(&store),
      context_(store.mesh().cp()),
      embedding_(embedding),
      head_(head),
      embedding_unit_(store.params()[embedding.weight()].unit),
      head_unit_(store.params()[head.weight()].unit) {
  for (std::int64_t depth = 0; depth < config.mtp.depth; ++depth) {
    const std::int64_t unit = store.begin_unit();
    if (depth == 0) first_unit_ = unit;
    depths_.emplace_back(store, config, config.num_layers + depth, rope);
  }
}

Tensor Mtp::look(const Context& ctx, std::size_t depth, const Inputs& in, DepthSaved& pass) const {
  const Tensor ids = ctx.stash->alloc(in.tokens.tokens.shape, DType::kI32),
               targets = ctx.stash->alloc(in.tokens.tokens.shape, DType::kI32);
  look_ahead(ctx, in.tokens, {in.sequences.length, static_cast<std::int64_t>(depth) + 1}, ids, targets);
  pass.ids = rows_here(ctx, in.sequences, ids);
  pass.targets = rows_here(ctx, in.sequences, targets);
  const UnitScope table(*store_, embedding_unit_);
  return embedding_.forward(ctx, pass.ids, pass.embedding);
}

void Mtp::forward(const Context& ctx, const Inputs& in, Saved& saved) const {
  saved.assign(depths_.size(), {});
  Tensor h = in.normed;
  for (std::size_t k = 0; k < depths_.size(); ++k) {
    DepthSaved& pass = saved[k];
    note_layer(ctx, Pass::kForward, depths_[k].layer());
    const ProfileRange range(fmt::format("layers.{} forward", depths_[k].layer()));
    const Tensor e = look(ctx, k, in, pass);
    {
      const UnitScope own(*store_, unit(k));
      h = depths_[k].forward(ctx, e, h, in.sequences, pass.depth);
    }
    const ArenaScope scope(*ctx.work);
    const UnitScope head(*store_, head_unit_);
    const auto at = static_cast<std::int64_t>(k);
    head_.forward(ctx, h, pass.targets, in.losses.slice(at, at + 1), pass.vocab);
  }
}

void Mtp::infer(const Context& ctx, const Inputs& in, Tensor choices, Tensor accepted) const {
  Tensor h = in.normed;
  for (std::size_t k = 0; k < depths_.size(); ++k) {
    DepthSaved pass;
    const Tensor e = look(ctx, k, in, pass);
    {
      const UnitScope own(*store_, unit(k));
      h = depths_[k].infer(ctx, e, h, in.sequences);
    }
    const ArenaScope kept(*ctx.stash), scope(*ctx.work);
    const UnitScope head(*store_, head_unit_);
    const auto at = static_cast<std::int64_t>(k);
    const Tensor ahead = k == 0 ? ctx.work->alloc(choices.shape, DType::kI32) : Tensor{};
    head_.forward(ctx, h, pass.targets, in.losses.slice(at, at + 1), pass.vocab, ahead);
    if (k == 0) count_accepted(ctx, in.sequences, {choices, ahead, pass.targets}, accepted);
  }
}

Tensor Mtp::of_all_parts(const Context& ctx, const Sequences& sequences, Tensor rows) const {
  if (!context_.is_needed()) return rows;
  const std::int64_t own = rows.numel(), all = own * context_.ranks();
  const Tensor joined = ctx.work->alloc({all}, rows.dtype);
  context_.forward(ctx, sequences, rows.reshape({own, 1}), joined.reshape({all, 1}));
  return joined;
}

// A row is compared with the one behind it, which may lie on another cp rank: the first of them counts for
// all, each of its tp ranks a part.
void Mtp::count_accepted(const Context& ctx, const Sequences& sequences, const Choices& here,
                         Tensor accepted) const {
  const Choices all{of_all_parts(ctx, sequences, here.model), of_all_parts(ctx, sequences, here.ahead),
                    of_all_parts(ctx, sequences, here.targets)};
  Mesh& mesh = store_->mesh();
  if (mesh.cp().rank() != 0) return;
  const Tensor agrees = ctx.work->alloc(all.model.shape, DType::kF32);
  agreement(ctx, all, {sequences.length, 1}, agrees);
  const std::int64_t rows = agrees.numel() / mesh.tp().size(), begin = mesh.tp().rank() * rows;
  add_column_sums(ctx, 1, agrees.slice(begin, begin + rows).reshape({rows, 1}), accepted);
}

Tensor Mtp::backward(const Context& ctx, Saved& saved, const LossScales& scales, const UnitDone& done) {
  // The gradient of a depth's normed rows from the depth behind it, then of those of the depth before.
  const Tensor dh = ctx.work->alloc(saved[0].depth.h.shape, saved[0].depth.h.dtype);
  for (std::size_t k = depths_.size(); k-- > 0;) {
    DepthSaved& pass = saved[k];
    note_layer(ctx, Pass::kBackward, depths_[k].layer());
    const ProfileRange range(fmt::format("layers.{} backward", depths_[k].layer()));
    const ArenaScope scope(*ctx.work);
    const Context inner = scratch(ctx);
    const Tensor dn = ctx.work->alloc(dh.shape, dh.dtype), de = ctx.work->alloc(dh.shape, dh.dtype);
    {
      const ArenaScope of_head(*ctx.work);
      const UnitScope head(*store_, head_unit_);
      const Tensor from_head = head_.backward_input(inner, scales.mtp[k], pass.vocab);
      head_.backward_weight(inner, pass.vocab);
      k + 1 < depths_.size() ? add(ctx, from_head, dh, dn) : copy(ctx, from_head, dn);
    }
    {
      const UnitScope own(*store_, unit(k));
      depths_[k].backward(ctx, dn, pass.depth, scales, {de, dh});
    }
    jevons::backward(embedding_, ctx, de, pass.embedding);
    tell(done, unit(k));
  }
  return dh;
}

Tensor Mtp::backward_input(const Context& ctx, Saved& saved, const LossScales& scales) {
  const Tensor dh = ctx.stash->alloc(saved[0].depth.h.shape, saved[0].depth.h.dtype);
  for (std::size_t k = depths_.size(); k-- > 0;) {
    DepthSaved& pass = saved[k];
    note_layer(ctx, Pass::kBackward, depths_[k].layer());
    const ProfileRange range(fmt::format("layers.{} backward, input", depths_[k].layer()));
    const Tensor de = ctx.stash->alloc(dh.shape, dh.dtype);
    const ArenaScope scope(*ctx.work);
    Tensor dn;
    {
      const UnitScope head(*store_, head_unit_);
      dn = head_.backward_input(ctx, scales.mtp[k], pass.vocab);
    }
    if (k + 1 < depths_.size()) add(ctx, dn, dh, dn);
    const UnitScope own(*store_, unit(k));
    depths_[k].backward_input(ctx, dn, pass.depth, scales, {de, dh});
    embedding_.backward_input(ctx, de, pass.embedding);
  }
  return dh;
}

void Mtp::backward_weight(const Context& ctx, Saved& saved, const UnitDone& done) {
  for (std::size_t k = depths_.size(); k-- > 0;) {
    note_layer(ctx, Pass::kBackward, depths_[k].layer());
    const ProfileRange range(fmt::format("layers.{} backward, weights", depths_[k].layer()));
    const ArenaScope scope(*ctx.work);
    head_.backward_weight(ctx, saved[k].vocab);
    depths_[k].backward_weight(ctx, saved[k].depth);
    embedding_.backward_weight(ctx, saved[k].embedding);
    tell(done, unit(k));
  }
}

}  // namespace jevons
