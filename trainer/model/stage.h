// The part of a decoder that lies on one pipeline stage: maybe the embedding, the blocks of consecutive
// layers, maybe the head. Every cp rank has its share of a micro-batch's rows (sequences.h), T of them;
// between blocks every tp rank holds T / tp consecutive ones. Construct (declares the weights),
// store.allocate(), store.initialize(seed), then passes of micro-batches, several of which may be under way
// at once, each with a stash and a Saved of its own.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "trainer/model/balance.h"
#include "trainer/model/block.h"
#include "trainer/model/embedding.h"
#include "trainer/model/lm_head.h"
#include "trainer/model/mtp.h"

namespace jevons {

// Whole sequences of config.seq_len, on the compute device, the same on all tp and cp ranks of a dp
// coordinate and on all stages. All (T cp) i32.
struct MicroBatch {
  Tensor tokens;
  Tensor targets;    // -1 = masked
  Tensor doc_start;  // undefined = no document mask
};

// A tensor that is part of the model's state but has no gradient; equal on all ranks.
struct StateTensor {
  std::string name;
  std::int64_t layer = 0;
  Tensor value;
  std::string dense_counterpart;  // as a router's in ParamSpec
};

// Layers first_layer .. end_layer - 1, with the ends that lie beside them.
struct StageRange {
  std::int64_t first_layer = 0, end_layer = 0;
  bool embedding = true, head = true;
};

// The figures (n) f64 of a pass to which a stage with the head adds: the sum of losses in nats, as
// CrossEntropy::finish does; that of each depth of multi-token prediction; and behind those, of infer alone,
// how often its first depth chose what the model did (Mtp::infer).
std::int64_t num_figures(const ModelConfig& config);

class Stage {
 public:
  struct Saved {
    Embedding::Saved embedding;
    std::vector<Block::Saved> blocks;
    LmHead::Saved head;
    Mtp::Saved mtp;
  };
  // Declares each part in a unit of its own. A head that is tied to the embedding, or has multi-token
  // prediction behind it, declares a copy of that (Tie) in its unit.
  Stage(ParamStore& store, const ModelConfig& config, const StageRange& range);
  Stage(const Stage&) = delete;  // blocks refer to rope_
  Stage& operator=(const Stage&) = delete;

  // Fills `saved`, whose tensors live in ctx.stash until the caller resets it after backward. x (S, D): rows
  // of the stage before; one with the embedding starts from the tokens. Returns the rows for the stage
  // behind, in ctx.stash; one with the head returns none and adds to the figures.
  Tensor forward(const Context& ctx, const MicroBatch& batch, Tensor figures, Saved& saved, Tensor x = {});
  // Adds to the store's gradients. dy (S, D): gradient of forward's result, where there is one. Returns that
  // of x, if any: written over dy, or in ctx.work, which the caller resets afterwards.
  Tensor backward(const Context& ctx, Saved& saved, const LossScales& scales, const UnitDone& done = {},
                  Tensor dy = {});
  // The halves. dy stays as it is and must live until backward_weight; the gradient of x is in ctx.stash.
  Tensor backward_input(const Context& ctx, Saved& saved, const LossScales& scales, Tensor dy = {});
  void backward_weight(const Context& ctx, Saved& saved, const UnitDone& done = {});

  // Forward that nobody goes back through: as forward, but its result is written over x (or the embedding's
  // rows), and ctx.stash does not grow with depth.
  Tensor infer(const Context& ctx, const MicroBatch& batch, Tensor figures, Tensor x = {});

  // Of a stage that is the whole model: logits (T, V / tp), this tp rank's part of the vocabulary, compute
  // dtype, in ctx.stash, of whole sequences of seq_len (T) i32. Collective.
  Tensor logits(const Context& ctx, Tensor tokens) const;
  // What generation needs: keys and values, or what stands for them, of every block.
  // Throws Error(kUsage) if one of the attentions has no cache.
  KvCache make_cache(const CacheSize& size) const;
  // Columns of a position over all blocks; nothing if one has no cache.
  std::optional<std::int64_t> cache_columns() const;
  // Generation on one worker, with tokens (n) i32 of the device. A new sequence `slot` of the cache, which
  // forgets what it held: logits (1, V), compute dtype, in ctx.stash, of the token behind the last.
  Tensor prefill(const Context& ctx, Tensor tokens, std::int64_t slot, KvCache& cache) const;
  // One more token of each of B sequences: logits (B, V) of the token behind it.
  Tensor decode(const Context& ctx, Tensor tokens, const CachePlaces& places, KvCache& cache) const;

  // Those of multi-token prediction behind the others.
  std::vector<Block*> blocks();

  // Of all MoE layers, as in TokenDispatcher: after passes on a GPU, before weights change.
  void fetch_reports(const Context& ctx) const;
  void check_reports() const;
  // Of the selection biases, from the next end_step on, in place of the configuration's.
  void set_bias_update_rate(double rate);
  // After a step's last backward: one entry per MoE layer, over the global batch; moves the selection biases
  // and starts the next step. kSkip for a step whose update was skipped. Collective; see Balance::end_step.
  std::vector<LayerHealth> end_step(const Context& ctx, BiasUpdate update);
  // The layers that end_step's entries belong to.
  std::vector<std::int64_t> moe_layers() const;
  // What checkpoints hold beside the weights: the selection biases of the MoE layers.
  std::vector<StateTensor> state() const;

  // Model FLOPs of a token beside 6 per weight of a product: of all attentions, over whole sequences of
  // config().seq_len; without and of multi-token prediction.
  double attention_flops_per_token() const;
  double mtp_attention_flops_per_token() const;
  // Whether the parameters of `unit` are those of multi-token prediction.
  bool is_mtp_unit(std::int64_t unit) const { return mtp_ && mtp_->owns(unit); }

  // Of the store, all that the stage declared.
  UnitRange units() const { return declared_; }

  const ModelConfig& config() const { return config_; }
  const StageRange& range() const { return range_; }

 private:
  // The units of the store that the stage declared, by part.
  struct Units {
    std::int64_t embedding = 0, head = 0;
    std::vector<std::int64_t> blocks;
  };
  // Tokens, or x, through the embedding, then f(block, its index, x) for every block, which writes over x.
  template <class F>
  Tensor through(const Context& ctx, Tensor tokens, Tensor x, F f) const;
  Sequences sequences(const Context& ctx, std::int64_t rows, std::int64_t length, Tensor doc_start) const;
  // Tokens, or x, through embedding and blocks.
  Tensor infer_rows(const Context& ctx, Tensor tokens, const Sequences& sequences, Tensor x) const;
  Tensor infer_logits(const Context& ctx, Tensor x) const;
  std::int64_t layer(std::size_t block) const {
    return range_.first_layer + static_cast<std::int64_t>(block);
  }
  Mtp::Inputs mtp_inputs(const MicroBatch& batch, const Sequences& sequences, Tensor normed,
                         Tensor figures) const;
  std::vector<Balance*> balances();
  // f(layer, block) of all blocks that have experts, those of multi-token prediction behind the others.
  template <class F>
  void for_each_moe(F f) const;

  ParamStore* store_;
  ModelConfig config_;
  StageRange range_;
  RopeTable rope_;
  std::optional<Embedding> embedding_;
  std::vector<Block> blocks_;
  std::optional<LmHead> head_;
  std::optional<Mtp> mtp_;
  Units units_;
  UnitRange declared_;
};

}  // namespace jevons
