// Models small enough for finite differences and for eight ranks on two cores.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/core/rng.h"
#include "tests/support/test_bed.h"
#include "trainer/model/model.h"

namespace jevons::test {

// Splits over tp 1, 2, 4. Weights are large enough that no part of the model is nearly linear.
inline ModelConfig tiny_dense() {
  ModelConfig config;
  config.vocab_size = 20;
  config.num_layers = 2;
  config.hidden_size = 16;
  config.ffn_hidden_size = 24;
  config.num_heads = 8;
  config.num_kv_heads = 4;
  config.head_dim = 4;
  config.seq_len = 8;
  config.init_std = 0.4;
  return config;
}

// Eight experts, two per token, one shared; the first layer is dense. Splits over ep 1, 2, 4, 8 as well.
inline ModelConfig tiny_moe() {
  ModelConfig config = tiny_dense();
  config.qk_norm = QkNorm::kHead;
  config.moe.router = {.num_experts = 8, .top_k = 2};
  config.moe.expert_hidden_size = 12;
  config.moe.num_shared_experts = 2;
  config.moe.first_dense_layers = 1;
  config.moe.use_selection_bias = true;
  config.moe.sequence_balance_loss = 0.3;
  config.moe.z_loss = 0.1;
  return config;
}

// Latent attention in place of grouped queries; q_lora_rank 0: queries without a latent. As DeepSeek turns
// them: neighbouring columns, YaRN.
inline ModelConfig with_latent(ModelConfig config, std::int64_t q_lora_rank) {
  config.mla = {.kv_lora_rank = 6,
                .q_lora_rank = q_lora_rank,
                .qk_nope_head_dim = 3,
                .qk_rope_head_dim = 4,
                .v_head_dim = 5};
  config.head_dim = 7, config.num_kv_heads = config.num_heads;
  config.qk_norm = QkNorm::kNone;
  config.rope = {.theta = 100,
                 .layout = RopeLayout::kInterleaved,
                 .scaling = RopeScaling::kYarn,
                 .factor = 4,
                 .original_seq_len = 4,
                 .beta_fast = 2,
                 .mscale = 1,
                 .mscale_all_dim = 0.7};
  return config;
}
inline ModelConfig tiny_latent(std::int64_t q_lora_rank) {
  return with_latent(tiny_dense(), q_lora_rank);
}

// Rows 0 .. rows-1 of a stream of random tokens; every `mask_every`-th target is masked (0: none).
inline MicroBatch random_batch(TestBed& bed, const ModelConfig& config, std::int64_t sequences,
                               const std::string& name, std::int64_t mask_every = 0) {
  const std::int64_t rows = sequences * config.seq_len;
  const MicroBatch batch{
      .tokens = bed.tensor({rows}, DType::kI32), .targets = bed.tensor({rows}, DType::kI32), .doc_start = {}};
  if (bed.ctx.device == Device::kMeta) return batch;
  const RandomStream stream(5, name);
  const auto vocab = static_cast<std::uint64_t>(config.vocab_size);
  for (std::int64_t t = 0; t < rows; ++t) {
    const auto i = static_cast<std::uint64_t>(t);
    const bool masked = mask_every > 0 && t % mask_every == 0;
    batch.tokens.ptr<std::int32_t>()[t] = static_cast<std::int32_t>(stream.below(2 * i, vocab));
    batch.targets.ptr<std::int32_t>()[t] =
        masked ? -1 : static_cast<std::int32_t>(stream.below(2 * i + 1, vocab));
  }
  return batch;
}

// Rows of sequences of config.seq_len, with an optional second document in the middle of each.
inline Sequences sequences_of(TestBed& bed, std::int64_t sequences, std::int64_t length,
                              std::int64_t second_document = 0) {
  Sequences result{
      .length = length, .positions = bed.tensor({sequences * length}, DType::kI32), .doc_start = {}};
  if (second_document > 0) result.doc_start = bed.tensor({sequences * length}, DType::kI32);
  if (bed.ctx.device == Device::kMeta) return result;
  for (std::int64_t t = 0; t < sequences * length; ++t) {
    const std::int64_t position = t % length;
    result.positions.ptr<std::int32_t>()[t] = static_cast<std::int32_t>(position);
    if (second_document > 0) {
      result.doc_start.ptr<std::int32_t>()[t] =
          static_cast<std::int32_t>(position >= second_document ? second_document : 0);
    }
  }
  return result;
}

inline RopeTable rope_of(Device device, DType compute, const ModelConfig& config) {
  return {device, compute, config.seq_len, rope_frequencies(config), config.rope.layout};
}

// Of the targets of a batch: how many are not masked.
inline std::int64_t count_targets(const MicroBatch& batch) {
  return std::ranges::count_if(batch.targets.span<std::int32_t>(), [](std::int32_t t) { return t >= 0; });
}

// What `forward`, of a model or a head, adds to the (count) figures that it is given.
template <class Forward>
std::vector<double> figures_of(const Context& ctx, std::int64_t count, Forward forward) {
  std::vector<double> values(static_cast<std::size_t>(count));
  const Buffer memory(ctx.device, values.size() * sizeof(double));
  const Tensor figures = memory.view(0, {count}, DType::kF64);
  forward(figures);
  if (ctx.device != Device::kMeta) std::ranges::copy(figures.span<double>(), values.begin());
  return values;
}
template <class Forward>
double loss_of(const Context& ctx, Forward forward) {
  return figures_of(ctx, 1, forward)[0];
}
inline std::vector<double> forward_figures(const Context& ctx, Model& model, const MicroBatch& batch,
                                           Model::Saved& saved) {
  return figures_of(ctx, num_figures(model.config()),
                    [&](Tensor figures) { model.forward(ctx, batch, figures, saved); });
}
inline std::vector<double> evaluated_figures(const Context& ctx, Model& model, const MicroBatch& batch) {
  return figures_of(ctx, num_figures(model.config()),
                    [&](Tensor figures) { model.evaluate(ctx, batch, figures); });
}
inline double forward_loss(const Context& ctx, Model& model, const MicroBatch& batch, Model::Saved& saved) {
  return forward_figures(ctx, model, batch, saved)[0];
}
inline double evaluated_loss(const Context& ctx, Model& model, const MicroBatch& batch) {
  return evaluated_figures(ctx, model, batch)[0];
}

// Of a micro-batch: the targets of a depth of multi-token prediction that are not masked.
inline std::int64_t count_targets_of_depth(const MicroBatch& batch, const ModelConfig& config,
                                           std::int64_t depth) {
  std::span<const std::int32_t> doc_start;
  if (batch.doc_start.defined()) doc_start = batch.doc_start.span<std::int32_t>();
  return count_targets_ahead(batch.targets.span<std::int32_t>(), doc_start, {config.seq_len, depth + 1});
}

}  // namespace jevons::test
