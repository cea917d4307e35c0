#include "trainer/model/stage.h"

#include <fmt/core.h>

#include "kernels/core/error.h"
#include "kernels/core/profile_range.h"
#include "kernels/core/whereabouts.h"
#include "kernels/rope.h"

namespace jevons {
namespace {

// While a unit's weights are read.
class UnitScope {
 public:
  UnitScope(ParamStore& store, std::int64_t unit) : store_(store), unit_(unit) { store_.enter(unit_); }
  ~UnitScope() { store_.leave(unit_); }
  UnitScope(const UnitScope&) = delete;
  UnitScope& operator=(const UnitScope&) = delete;

 private:
  ParamStore& store_;
  std::int64_t unit_;
};

void note_layer(const Context& ctx, Pass pass, std::int64_t layer) {
  if (ctx.whereabouts != nullptr) ctx.whereabouts->layer(pass, layer);
}

void tell(const UnitDone& done, std::int64_t unit) {
  if (done) done(unit);
}

// The weight that a tied head shares.
std::optional<ParamId> tied_weight(const ParamStore& store, const ModelConfig& config) {
  if (!config.tie_embeddings) return std::nullopt;
  const std::optional<ParamId> embedding = store.find("embedding");
  ENSURE(embedding, "a head tied to the embedding needs that on the same rank");
  return embedding;
}

}  // namespace

Stage::Stage(ParamStore& store, const ModelConfig& config, const StageRange& range)
    : store_(&store),
      config_(config),
      range_(range),
      rope_(store.device(), store.compute(), config.seq_len, rope_frequencies(config), config.rope.layout) {
  if (range.embedding) {
    units_.embedding = store.begin_unit();
    embedding_.emplace(store, config);
  }
  blocks_.reserve(static_cast<std::size_t>(range.end_layer - range.first_layer));
  for (std::int64_t layer = range.first_layer; layer < range.end_layer; ++layer) {
    units_.blocks.push_back(store.begin_unit());
    blocks_.emplace_back(store, config, layer, rope_);
  }
  if (range.head) {
    units_.head = units_.head_weight = store.begin_unit();
    const std::optional<ParamId> tied = tied_weight(store, config);
    if (tied) units_.head_weight = store.params()[*tied].unit;
    head_.emplace(store, config, tied);
  }
}

Tensor Stage::forward(const Context& ctx, const MicroBatch& batch, Tensor loss_sum, Saved& saved, Tensor x) {
  const Sequences rows = sequences(ctx, batch.tokens.shape[0], config_.seq_len, batch.doc_start);
  if (embedding_) {
    const UnitScope unit(*store_, units_.embedding);
    x = embedding_->forward(ctx, batch.tokens, saved.embedding);
  }
  saved.blocks.assign(blocks_.size(), {});
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    note_layer(ctx, Pass::kForward, layer(i));
    const ProfileRange range(fmt::format("layers.{} forward", layer(i)));
    const UnitScope unit(*store_, units_.blocks[i]);
    x = blocks_[i].forward(ctx, x, rows, saved.blocks[i]);
  }
  if (!head_) return x;
  const UnitScope unit(*store_, units_.head), weight(*store_, units_.head_weight);
  head_->forward(ctx, x, batch.targets, loss_sum, saved.head);
  return {};
}

Tensor Stage::backward(const Context& ctx, Saved& saved, const LossScales& scales, const UnitDone& done,
                       Tensor dy) {
  if (head_) {
    const UnitScope unit(*store_, units_.head), weight(*store_, units_.head_weight);
    dy = head_->backward(ctx, scales.token, saved.head);
    tell(done, units_.head);
  }
  for (std::size_t i = blocks_.size(); i-- > 0;) {
    note_layer(ctx, Pass::kBackward, layer(i));
    const ProfileRange range(fmt::format("layers.{} backward", layer(i)));
    const UnitScope unit(*store_, units_.blocks[i]);
    blocks_[i].backward(ctx, dy, saved.blocks[i], scales);
    tell(done, units_.blocks[i]);
  }
  if (!embedding_) return dy;
  const ArenaScope scope(*ctx.work);
  jevons::backward(*embedding_, ctx, dy, saved.embedding);
  return {};
}

Tensor Stage::backward_input(const Context& ctx, Saved& saved, const LossScales& scales, Tensor dy) {
  if (head_) {
    const UnitScope unit(*store_, units_.head), weight(*store_, units_.head_weight);
    dy = head_->backward_input(ctx, scales.token, saved.head);
  }
  for (std::size_t i = blocks_.size(); i-- > 0;) {
    note_layer(ctx, Pass::kBackward, layer(i));
    const ProfileRange range(fmt::format("layers.{} backward, input", layer(i)));
    const UnitScope unit(*store_, units_.blocks[i]);
    dy = blocks_[i].backward_input(ctx, dy, saved.blocks[i], scales);
  }
  return embedding_ ? embedding_->backward_input(ctx, dy, saved.embedding) : dy;
}

void Stage::backward_weight(const Context& ctx, Saved& saved, const UnitDone& done) {
  if (head_) {
    head_->backward_weight(ctx, saved.head);
    tell(done, units_.head);
  }
  for (std::size_t i = blocks_.size(); i-- > 0;) {
    note_layer(ctx, Pass::kBackward, layer(i));
    const ProfileRange range(fmt::format("layers.{} backward, weights", layer(i)));
    blocks_[i].backward_weight(ctx, saved.blocks[i]);
    tell(done, units_.blocks[i]);
  }
  if (embedding_) embedding_->backward_weight(ctx, saved.embedding);
}

Tensor Stage::infer(const Context& ctx, const MicroBatch& batch, Tensor loss_sum, Tensor x) {
  const Sequences rows = sequences(ctx, batch.tokens.shape[0], config_.seq_len, batch.doc_start);
  x = infer_rows(ctx, batch.tokens, rows, x);
  if (!head_) return x;
  const UnitScope unit(*store_, units_.head), weight(*store_, units_.head_weight);
  LmHead::Saved dropped;
  head_->forward(ctx, x, batch.targets, loss_sum, dropped);
  return {};
}

Tensor Stage::infer_rows(const Context& ctx, Tensor tokens, const Sequences& rows, Tensor x) const {
  if (embedding_) {
    const UnitScope unit(*store_, units_.embedding);
    Embedding::Saved dropped;
    x = embedding_->forward(ctx, tokens, dropped);
  }
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    const UnitScope unit(*store_, units_.blocks[i]);
    blocks_[i].infer(ctx, x, rows);
  }
  return x;
}

Tensor Stage::infer_logits(const Context& ctx, Tensor x) const {
  ENSURE(head_, "logits of a stage without a head");
  const UnitScope unit(*store_, units_.head), weight(*store_, units_.head_weight);
  return head_->logits(ctx, x);
}

Sequences Stage::sequences(const Context& ctx, std::int64_t rows, std::int64_t length,
                           Tensor doc_start) const {
  ENSURE(rows > 0 && rows % length == 0, "{} rows are no whole sequences of {}", rows, length);
  const Tensor positions = ctx.stash->alloc({rows}, DType::kI32);
  token_positions(ctx, length, positions);
  return {.length = length, .positions = positions, .doc_start = doc_start};
}

void Stage::fetch_reports(const Context& ctx) const {
  for (const Block& block : blocks_) {
    if (block.moe() != nullptr) block.moe()->dispatcher().fetch_reports(ctx);
  }
}

void Stage::check_reports() const {
  for (const Block& block : blocks_) {
    if (block.moe() != nullptr) block.moe()->dispatcher().check_reports();
  }
}

std::vector<LayerHealth> Stage::end_step(const Context& ctx, BiasUpdate update) {
  std::vector<Balance*> layers;
  for (Block& block : blocks_) {
    if (block.moe() != nullptr) layers.push_back(&block.moe()->balance());
  }
  return Balance::end_step(ctx, layers, update);
}

std::vector<std::int64_t> Stage::moe_layers() const {
  std::vector<std::int64_t> layers;
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    if (blocks_[i].moe() != nullptr) layers.push_back(layer(i));
  }
  return layers;
}

double Stage::attention_flops_per_token() const {
  double flops = 0;
  for (const Block& block : blocks_) flops += block.score_flops_per_token(config_.seq_len);
  return flops;
}

std::vector<StateTensor> Stage::state() const {
  std::vector<StateTensor> tensors;
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    const Moe* moe = blocks_[i].moe();
    if (moe == nullptr || !moe->selection_bias().defined()) continue;
    tensors.push_back({.name = fmt::format("layers.{}.moe.router.bias", layer(i)),
                       .value = moe->selection_bias(),
                       .dense_counterpart = fmt::format("layers.{}.ffn.down", layer(i))});
  }
  return tensors;
}

}  // namespace jevons
