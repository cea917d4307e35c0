#include "trainer/model/model.h"

#include <fmt/core.h>

#include "kernels/core/error.h"
#include "kernels/core/profile_range.h"
#include "kernels/core/whereabouts.h"
#include "kernels/moe/permute.h"
#include "kernels/rope.h"

namespace jevons {

namespace {

std::vector<Block> make_blocks(ParamStore& store, const ModelConfig& config, const RopeTable& rope) {
  std::vector<Block> blocks;
  blocks.reserve(static_cast<std::size_t>(config.num_layers));
  for (std::int64_t layer = 0; layer < config.num_layers; ++layer)
    blocks.emplace_back(store.begin_unit(), config, layer, rope);
  return blocks;
}

void note_layer(const Context& ctx, Pass pass, std::size_t layer) {
  if (ctx.whereabouts != nullptr) ctx.whereabouts->layer(pass, static_cast<std::int64_t>(layer));
}

}  // namespace

Model::Model(ParamStore& store, const ModelConfig& config)
    : config_(config),
      rope_(store.device(), store.compute(), config.seq_len, rope_frequencies(config)),
      embedding_(store, config),
      blocks_(make_blocks(store, config, rope_)),
      head_(store.begin_unit(), config,
            config.tie_embeddings ? std::optional(embedding_.weight()) : std::nullopt) {}

void Model::forward(const Context& ctx, const MicroBatch& batch, Tensor loss_sum, Saved& saved) {
  const Sequences rows = sequences(ctx, batch.tokens.shape[0], config_.seq_len, batch.doc_start);
  Tensor x = embedding_.forward(ctx, batch.tokens, saved.embedding);
  saved.blocks.assign(blocks_.size(), {});
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    note_layer(ctx, Pass::kForward, i);
    const ProfileRange range(fmt::format("layers.{} forward", i));
    x = blocks_[i].forward(ctx, x, rows, saved.blocks[i]);
  }
  head_.forward(ctx, x, batch.targets, loss_sum, saved.head);
}

void Model::backward(const Context& ctx, Saved& saved, const LossScales& scales, GradReducer* reducer) {
  // Unit 0 is the embedding, unit i + 1 block i.
  const auto done = [&](std::size_t unit) {
    if (reducer != nullptr) reducer->start_unit(ctx, static_cast<std::int64_t>(unit));
  };
  const Tensor dx = head_.backward(ctx, scales.token, saved.head);
  done(blocks_.size() + 1);
  for (std::size_t i = blocks_.size(); i-- > 0;) {
    note_layer(ctx, Pass::kBackward, i);
    const ProfileRange range(fmt::format("layers.{} backward", i));
    blocks_[i].backward(ctx, dx, saved.blocks[i], scales);
    done(i + 1);
  }
  const ArenaScope scope(*ctx.work);
  jevons::backward(embedding_, ctx, dx, saved.embedding);
}

void Model::fetch_reports(const Context& ctx) const {
  for (const Block& block : blocks_) {
    if (block.moe() != nullptr) block.moe()->dispatcher().fetch_reports(ctx);
  }
}

void Model::check_reports() const {
  for (const Block& block : blocks_) {
    if (block.moe() != nullptr) block.moe()->dispatcher().check_reports();
  }
}

void Model::evaluate(const Context& ctx, const MicroBatch& batch, Tensor loss_sum) {
  const ArenaScope scope(*ctx.stash);
  const Tensor x =
      infer(ctx, batch.tokens, sequences(ctx, batch.tokens.shape[0], config_.seq_len, batch.doc_start));
  LmHead::Saved dropped;
  head_.forward(ctx, x, batch.targets, loss_sum, dropped);
}

Tensor Model::next_token_logits(const Context& ctx, Tensor tokens, Tensor rows) {
  const std::int64_t length = tokens.shape[0];
  ENSURE(length <= config_.seq_len, "{} tokens exceed the context of {}", length, config_.seq_len);
  const Tensor x = infer(ctx, tokens, sequences(ctx, length, length, {}));
  const Tensor picked = ctx.stash->alloc({rows.shape[0], x.cols()}, x.dtype);
  gather_rows(ctx, x, rows, picked);
  return head_.logits(ctx, picked);
}

std::vector<LayerHealth> Model::end_step(const Context& ctx, BiasUpdate update) {
  std::vector<Balance*> layers;
  for (Block& block : blocks_) {
    if (block.moe() != nullptr) layers.push_back(&block.moe()->balance());
  }
  return Balance::end_step(ctx, layers, update);
}

std::vector<std::int64_t> Model::moe_layers() const {
  std::vector<std::int64_t> layers;
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    if (blocks_[i].moe() != nullptr) layers.push_back(static_cast<std::int64_t>(i));
  }
  return layers;
}

double Model::attention_flops_per_token() const {
  double flops = 0;
  for (const Block& block : blocks_) flops += block.score_flops_per_token(config_.seq_len);
  return flops;
}

std::vector<StateTensor> Model::state() const {
  std::vector<StateTensor> tensors;
  for (std::int64_t layer : moe_layers()) {
    const Tensor bias = blocks_[static_cast<std::size_t>(layer)].moe()->selection_bias();
    if (!bias.defined()) continue;
    tensors.push_back({.name = fmt::format("layers.{}.moe.router.bias", layer),
                       .value = bias,
                       .dense_counterpart = fmt::format("layers.{}.ffn.down", layer)});
  }
  return tensors;
}

Tensor Model::infer(const Context& ctx, Tensor tokens, const Sequences& rows) {
  Embedding::Saved dropped;
  const Tensor x = embedding_.forward(ctx, tokens, dropped);
  for (Block& block : blocks_) block.infer(ctx, x, rows);
  return x;
}

Sequences Model::sequences(const Context& ctx, std::int64_t rows, std::int64_t length,
                           Tensor doc_start) const {
  ENSURE(rows > 0 && rows % length == 0, "{} rows are no whole sequences of {}", rows, length);
  const Tensor positions = ctx.stash->alloc({rows}, DType::kI32);
  token_positions(ctx, length, positions);
  return {.length = length, .positions = positions, .doc_start = doc_start};
}

}  // namespace jevons
