#include "trainer/model/stage.h"

#include <fmt/core.h>

#include "kernels/core/error.h"
#include "kernels/core/profile_range.h"
#include "kernels/elementwise.h"

namespace jevons {
namespace {

// Whether the end of the model uses the embedding too.
bool embedding_is_shared(const ModelConfig& config) {
  return config.tie_embeddings || config.mtp.depth > 0;
}

}  // namespace

std::int64_t num_figures(const ModelConfig& config) {
  return 1 + config.mtp.depth + (config.mtp.depth > 0 ? 1 : 0);
}

Stage::Stage(ParamStore& store, const ModelConfig& config, const StageRange& range)
    : store_(&store),
      config_(config),
      range_(range),
      rope_(store.device(), store.compute(), config.seq_len, rope_frequencies(config), config.rope.layout) {
  declared_.first = store.last_unit() + 1;
  if (range.embedding) {
    units_.embedding = store.begin_unit();
    embedding_.emplace(store, config, embedding_is_shared(config) ? Tie::kOwner : Tie::kNone);
  }
  blocks_.reserve(static_cast<std::size_t>(range.end_layer - range.first_layer));
  for (std::int64_t layer = range.first_layer; layer < range.end_layer; ++layer) {
    units_.blocks.push_back(store.begin_unit());
    blocks_.emplace_back(store, config, layer, rope_);
  }
  if (range.head) {
    units_.head = store.begin_unit();
    std::optional<Embedding> copy;
    if (embedding_is_shared(config)) copy.emplace(store, config, Tie::kCopy);
    head_.emplace(store, config, config.tie_embeddings ? std::optional(copy->weight()) : std::nullopt);
    if (config.mtp.depth > 0) mtp_.emplace(store, config, rope_, *copy, head_->vocab());
  }
  declared_.last = store.last_unit();
}

Mtp::Inputs Stage::mtp_inputs(const MicroBatch& batch, const Sequences& rows, Tensor normed,
                              Tensor figures) const {
  return {.tokens = {batch.tokens, batch.targets, batch.doc_start},
          .sequences = rows,
          .normed = normed,
          .losses = figures.slice(1, 1 + config_.mtp.depth)};
}

Tensor Stage::forward(const Context& ctx, const MicroBatch& batch, Tensor figures, Saved& saved, Tensor x) {
  const Sequences rows = sequences(ctx, batch.tokens.shape[0], config_.seq_len, batch.doc_start);
  if (embedding_) {
    const UnitScope unit(*store_, units_.embedding);
    x = embedding_->forward(ctx, rows_here(ctx, rows, batch.tokens), saved.embedding);
  }
  saved.blocks.assign(blocks_.size(), {});
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    note_layer(ctx, Pass::kForward, layer(i));
    const ProfileRange range(fmt::format("layers.{} forward", layer(i)));
    const UnitScope unit(*store_, units_.blocks[i]);
    x = blocks_[i].forward(ctx, x, rows, saved.blocks[i]);
  }
  if (!head_) return x;
  {
    const UnitScope unit(*store_, units_.head);
    head_->forward(ctx, x, rows_here(ctx, rows, batch.targets), figures.slice(0, 1), saved.head);
  }
  if (mtp_) mtp_->forward(ctx, mtp_inputs(batch, rows, saved.head.normed, figures), saved.mtp);
  return {};
}

Tensor Stage::backward(const Context& ctx, Saved& saved, const LossScales& scales, const UnitDone& done,
                       Tensor dy) {
  if (head_) {
    const Tensor d_normed = mtp_ ? mtp_->backward(ctx, saved.mtp, scales, done) : Tensor{};
    const UnitScope unit(*store_, units_.head);
    dy = head_->backward(ctx, scales.token, saved.head, d_normed);
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
    const Tensor d_normed = mtp_ ? mtp_->backward_input(ctx, saved.mtp, scales) : Tensor{};
    const UnitScope unit(*store_, units_.head);
    dy = head_->backward_input(ctx, scales.token, saved.head, d_normed);
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
    if (mtp_) mtp_->backward_weight(ctx, saved.mtp, done);
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

Tensor Stage::infer(const Context& ctx, const MicroBatch& batch, Tensor figures, Tensor x) {
  const Sequences rows = sequences(ctx, batch.tokens.shape[0], config_.seq_len, batch.doc_start);
  x = infer_rows(ctx, embedding_ ? rows_here(ctx, rows, batch.tokens) : Tensor{}, rows, x);
  if (!head_) return x;
  LmHead::Saved dropped;
  const Tensor targets = rows_here(ctx, rows, batch.targets);
  const Tensor choices = mtp_ ? ctx.stash->alloc(targets.shape, DType::kI32) : Tensor{};
  {
    const UnitScope unit(*store_, units_.head);
    head_->forward(ctx, x, targets, figures.slice(0, 1), dropped, choices);
  }
  if (mtp_) {
    const std::int64_t last = 1 + config_.mtp.depth;
    mtp_->infer(ctx, mtp_inputs(batch, rows, dropped.normed, figures), choices,
                figures.slice(last, last + 1));
  }
  return {};
}

template <class F>
Tensor Stage::through(const Context& ctx, Tensor tokens, Tensor x, F f) const {
  if (embedding_) {
    const UnitScope unit(*store_, units_.embedding);
    Embedding::Saved dropped;
    x = embedding_->forward(ctx, tokens, dropped);
  }
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    const UnitScope unit(*store_, units_.blocks[i]);
    f(blocks_[i], i, x);
  }
  return x;
}

Tensor Stage::logits(const Context& ctx, Tensor tokens) const {
  ENSURE(embedding_ && store_->mesh().cp().size() == 1,
         "logits of a stage without the embedding, or of parts of sequences");
  return infer_logits(ctx, infer_rows(ctx, tokens, sequences(ctx, tokens.shape[0], config_.seq_len, {}), {}));
}

Tensor Stage::infer_rows(const Context& ctx, Tensor tokens, const Sequences& rows, Tensor x) const {
  return through(ctx, tokens, x,
                 [&](const Block& block, std::size_t, Tensor in) { block.infer(ctx, in, rows); });
}

Tensor Stage::prefill(const Context& ctx, Tensor tokens, std::int64_t slot, KvCache& cache) const {
  ENSURE(embedding_, "generation by a stage without the embedding");
  const std::int64_t length = tokens.shape[0], positions = cache.size().positions;
  ENSURE(length <= positions, "{} tokens exceed the {} positions of the cache", length, positions);
  const Sequences rows = sequences(ctx, length, length, {});
  const Tensor first = ctx.stash->alloc({length}, DType::kI32);
  fill_zero(ctx, first);
  const CachePlaces places{.slots = first, .positions = rows.positions, .capacity = positions};
  const Tensor x = through(ctx, tokens, {}, [&](const Block& block, std::size_t i, Tensor in) {
    const Tensor mine = cache.layer(i).slice(slot * positions, (slot + 1) * positions);
    block.prefill(ctx, in, rows, places, mine);
  });
  return infer_logits(ctx, x.slice(x.rows() - 1, x.rows()));
}

Tensor Stage::decode(const Context& ctx, Tensor tokens, const CachePlaces& places, KvCache& cache) const {
  ENSURE(embedding_, "generation by a stage without the embedding");
  return infer_logits(ctx, through(ctx, tokens, {}, [&](const Block& block, std::size_t i, Tensor in) {
                        block.decode(ctx, in, places, cache.layer(i));
                      }));
}

KvCache Stage::make_cache(const CacheSize& size) const {
  ENSURE(size.positions <= config_.seq_len, "a cache of {} positions for a context of {}", size.positions,
         config_.seq_len);
  if (!cache_columns()) {
    fail(ExitCode::kUsage, "this model's attention has no cache, so that it cannot generate");
  }
  std::vector<std::int64_t> columns;
  for (const Block& block : blocks_) columns.push_back(*block.cache_columns());
  return {store_->device(), store_->compute(), size, columns};
}

std::optional<std::int64_t> Stage::cache_columns() const {
  std::int64_t sum = 0;
  for (const Block& block : blocks_) {
    const std::optional<std::int64_t> columns = block.cache_columns();
    if (!columns) return std::nullopt;
    sum += *columns;
  }
  return sum;
}

Tensor Stage::infer_logits(const Context& ctx, Tensor x) const {
  ENSURE(head_, "logits of a stage without a head");
  const UnitScope unit(*store_, units_.head);
  return head_->logits(ctx, x);
}

Sequences Stage::sequences(const Context& ctx, std::int64_t rows, std::int64_t length,
                           Tensor doc_start) const {
  return sequences_here(ctx, store_->mesh().cp(), rows, length, doc_start);
}

template <class F>
void Stage::for_each_moe(F f) const {
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    if (blocks_[i].moe() != nullptr) f(layer(i), *blocks_[i].moe());
  }
  if (!mtp_) return;
  for (const MtpDepth& depth : mtp_->depths()) {
    if (depth.block().moe() != nullptr) f(depth.layer(), *depth.block().moe());
  }
}

void Stage::fetch_reports(const Context& ctx) const {
  for_each_moe([&](std::int64_t, const Moe& moe) { moe.dispatcher().fetch_reports(ctx); });
}

void Stage::check_reports() const {
  for_each_moe([](std::int64_t, const Moe& moe) { moe.dispatcher().check_reports(); });
}

std::vector<Balance*> Stage::balances() {
  std::vector<Balance*> layers;
  for (Block* block : blocks()) {
    if (block->moe() != nullptr) layers.push_back(&block->moe()->balance());
  }
  return layers;
}

std::vector<Block*> Stage::blocks() {
  std::vector<Block*> all;
  for (Block& block : blocks_) all.push_back(&block);
  if (mtp_) {
    for (MtpDepth& depth : mtp_->depths()) all.push_back(&depth.block());
  }
  return all;
}

void Stage::set_bias_update_rate(double rate) {
  for (Balance* balance : balances()) balance->set_bias_update_rate(rate);
}

std::vector<LayerHealth> Stage::end_step(const Context& ctx, BiasUpdate update) {
  std::vector<LayerHealth> health = Balance::end_step(ctx, balances(), update);
  const std::vector<std::int64_t> layers = moe_layers();
  for (std::size_t i = 0; i < health.size(); ++i) health[i].layer = layers[i];
  return health;
}

std::vector<std::int64_t> Stage::moe_layers() const {
  std::vector<std::int64_t> layers;
  for_each_moe([&](std::int64_t layer, const Moe&) { layers.push_back(layer); });
  return layers;
}

double Stage::attention_flops_per_token() const {
  double flops = 0;
  for (const Block& block : blocks_) flops += block.score_flops_per_token(config_.seq_len);
  return flops;
}

double Stage::mtp_attention_flops_per_token() const {
  double flops = 0;
  if (!mtp_) return flops;
  for (const MtpDepth& depth : mtp_->depths()) flops += depth.block().score_flops_per_token(config_.seq_len);
  return flops;
}

std::vector<StateTensor> Stage::state() const {
  std::vector<StateTensor> tensors;
  for_each_moe([&](std::int64_t layer, const Moe& moe) {
    if (!moe.selection_bias().defined()) return;
    tensors.push_back({.name = fmt::format("layers.{}.moe.router.bias", layer),
                       .layer = layer,
                       .value = moe.selection_bias(),
                       .dense_counterpart = fmt::format("layers.{}.ffn.down", layer)});
  });
  return tensors;
}

}  // namespace jevons
