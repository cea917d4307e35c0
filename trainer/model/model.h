// The decoder: embedding, blocks, head. Between them every tp rank holds T / tp consecutive rows of a
// micro-batch of T. Construct (declares all weights), store.allocate(), store.initialize(seed), then forward
// and backward per micro-batch.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "parallel/grad_reducer.h"
#include "trainer/model/block.h"
#include "trainer/model/embedding.h"
#include "trainer/model/lm_head.h"

namespace jevons {

// Whole sequences of config.seq_len, on the compute device, the same on all tp ranks of a dp coordinate. All
// (T) i32.
struct MicroBatch {
  Tensor tokens;
  Tensor targets;    // -1 = masked
  Tensor doc_start;  // undefined = no document mask
};

// A tensor that is part of the model's state but has no gradient; equal on all ranks.
struct StateTensor {
  std::string name;
  Tensor value;
  std::string dense_counterpart;  // as a router's in ParamSpec
};

class Model {
 public:
  struct Saved {
    Embedding::Saved embedding;
    std::vector<Block::Saved> blocks;
    LmHead::Saved head;
  };
  Model(ParamStore& store, const ModelConfig& config);
  Model(const Model&) = delete;  // blocks refer to rope_
  Model& operator=(const Model&) = delete;

  // Fills `saved`, whose tensors live in ctx.stash until the caller resets it after backward. loss_sum (1)
  // f64 as in LmHead.
  void forward(const Context& ctx, const MicroBatch& batch, Tensor loss_sum, Saved& saved);
  // Adds to the store's gradients. The caller resets ctx.work afterwards. In a step's last backward `sync`
  // sums the gradients of each unit (the head, a block) while those before it are computed; its start() is
  // left to the caller.
  void backward(const Context& ctx, Saved& saved, const LossScales& scales, GradReducer* reducer = nullptr);

  // Of all MoE layers, as in TokenDispatcher: after passes on a GPU, before weights change.
  void fetch_reports(const Context& ctx) const;
  void check_reports() const;

  // Loss without backward: the stash does not grow with depth.
  void evaluate(const Context& ctx, const MicroBatch& batch, Tensor loss_sum);
  // Logits (n, V), compute dtype, in ctx.stash, of the given rows of one sequence of at most seq_len tokens
  // (T) i32. rows (n) i32. One worker.
  Tensor next_token_logits(const Context& ctx, Tensor tokens, Tensor rows);

  // After a step's last backward: one entry per MoE layer, over the global batch; moves the selection biases
  // and starts the next step. kSkip for a step whose update was skipped. Collective; see Balance::end_step.
  std::vector<LayerHealth> end_step(const Context& ctx, BiasUpdate update);
  // The layers that end_step's entries belong to.
  std::vector<std::int64_t> moe_layers() const;
  // What checkpoints hold beside the weights: the selection biases of the MoE layers.
  std::vector<StateTensor> state() const;
  // Model FLOPs of a token beside 6 per weight of a product: of all attentions, over whole sequences of
  // config().seq_len.
  double attention_flops_per_token() const;
  const ModelConfig& config() const { return config_; }

 private:
  Sequences sequences(const Context& ctx, std::int64_t rows, std::int64_t length, Tensor doc_start) const;
  Tensor infer(const Context& ctx, Tensor tokens, const Sequences& sequences);

  ModelConfig config_;
  RopeTable rope_;
  Embedding embedding_;
  std::vector<Block> blocks_;
  LmHead head_;
};

}  // namespace jevons
