// What a model is, as plain data. trainer/config fills it from YAML; nothing below knows a config library.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>

#include "kernels/moe/routing.h"

namespace jevons {

enum class QkNorm : std::uint8_t {
  kNone,
  kHead,    // RMSNorm over each head (Qwen3)
  kHidden,  // RMSNorm over all heads together (OLMoE); needs tp = 1
};
enum class Recompute : std::uint8_t {
  kNone,
  kSelective,  // norms' and SwiGLU's outputs are made again in the backward pass
  kFull,       // a block keeps its input and its routing only
};

struct MoeConfig {
  RouterRule router;                    // num_experts, top_k, scores, groups; num_experts = 0: dense model
  std::int64_t expert_hidden_size = 0;  // F of each routed expert
  // Computed for every token, as one FFN of this many times expert_hidden_size.
  std::int64_t num_shared_experts = 0;
  std::int64_t first_dense_layers = 0;  // layers 0 .. n-1 have a dense FFN
  double capacity_factor = 0;           // 0: dropless
  bool reduce_at_expert = false;
  std::int64_t dispatch_chunks = 1;  // parts of a micro-batch; one travels while another is computed
  bool use_selection_bias = false;   // DeepSeek-V3's bias, updated from the global batch's load
  double bias_update_rate = 0.001;   // gamma
  double balance_loss = 0;           // coefficient; over each micro-batch of a rank
  double sequence_balance_loss = 0;  // coefficient; over each sequence
  double global_balance_loss = 0;    // coefficient; load over the global batch so far
  double z_loss = 0;                 // coefficient
  bool operator==(const MoeConfig&) const = default;
};

struct ModelConfig {
  std::int64_t vocab_size = 0;
  std::int64_t num_layers = 0;
  std::int64_t hidden_size = 0;      // D
  std::int64_t ffn_hidden_size = 0;  // F of dense FFNs
  std::int64_t num_heads = 0;        // H
  std::int64_t num_kv_heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t seq_len = 0;
  double rope_theta = 10000;
  double norm_eps = 1e-5;
  QkNorm qk_norm = QkNorm::kNone;
  bool tie_embeddings = false;
  double init_std = 0.02;  // output projections: divided by sqrt(2 * num_layers)
  Recompute recompute = Recompute::kNone;
  // Of one micro-batch's logits on one rank. A larger head works in chunks and makes their logits twice
  // (lm_head.h).
  std::int64_t max_logit_bytes = std::int64_t{1} << 30;
  MoeConfig moe;

  double output_init_std() const { return init_std / std::sqrt(2.0 * static_cast<double>(num_layers)); }
  bool is_moe_layer(std::int64_t layer) const {
    return moe.router.num_experts > 0 && layer >= moe.first_dense_layers;
  }
  bool operator==(const ModelConfig&) const = default;
};

}  // namespace jevons
