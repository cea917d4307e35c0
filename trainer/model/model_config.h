// What a model is, as plain data. trainer/config fills it from YAML; nothing below knows a config library.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>

#include "kernels/moe/routing.h"
#include "kernels/rope.h"

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

// How the frequencies of rotary positions reach a context longer than that of pretraining (rope.h).
enum class RopeScaling : std::uint8_t { kNone, kLinear, kDynamic, kLlama3, kYarn };

struct RopeConfig {
  double theta = 10000;
  RopeLayout layout = RopeLayout::kHalf;
  RopeScaling scaling = RopeScaling::kNone;
  double factor = 1;
  std::int64_t original_seq_len = 0;                 // context of pretraining
  double beta_fast = 32, beta_slow = 1;              // YaRN: turns within it from which on, up to which, ...
  bool truncate = true;                              // YaRN: the pairs of these are whole numbers
  double mscale = 0, mscale_all_dim = 0;             // YaRN; 0: not given
  double attention_factor = 0;                       // YaRN; 0: from factor and mscale
  double low_freq_factor = 1, high_freq_factor = 4;  // Llama 3
  bool operator==(const RopeConfig&) const = default;
};

// Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434, section 2.1).
struct MlaConfig {
  std::int64_t kv_lora_rank = 0;      // width of the latent of keys and values; 0: grouped-query attention
  std::int64_t q_lora_rank = 0;       // width of the queries' latent; 0: none
  std::int64_t qk_nope_head_dim = 0;  // columns of a head of q and k without rotation, in front
  std::int64_t qk_rope_head_dim = 0;  // rotated columns behind them; those of k are shared by all heads
  std::int64_t v_head_dim = 0;

  bool enabled() const { return kv_lora_rank > 0; }
  bool operator==(const MlaConfig&) const = default;
};

enum class BiasRule : std::uint8_t {
  kSign,      // moved by a rate towards the mean load (DeepSeek-V3)
  kQuantile,  // set to where the last batch's loads would have been equal
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
  bool use_selection_bias = false;   // a bias of the choice, updated from the global batch
  BiasRule bias_rule = BiasRule::kSign;
  double bias_update_rate = 0.001;   // gamma, of kSign
  double balance_loss = 0;           // coefficient; over each micro-batch of a rank
  double sequence_balance_loss = 0;  // coefficient; over each sequence
  double global_balance_loss = 0;    // coefficient; load over the global batch so far
  double z_loss = 0;                 // coefficient
  bool operator==(const MoeConfig&) const = default;
};

// Multi-token prediction (mtp.h): `depth` further blocks behind the model's, as layers num_layers and on.
struct MtpConfig {
  std::int64_t depth = 0;    // 0: none
  double loss_weight = 0.3;  // of the mean of the depths' losses
  bool operator==(const MtpConfig&) const = default;
};

struct ModelConfig {
  std::int64_t vocab_size = 0;
  std::int64_t num_layers = 0;
  std::int64_t hidden_size = 0;      // D
  std::int64_t ffn_hidden_size = 0;  // F of dense FFNs
  std::int64_t num_heads = 0;        // H
  std::int64_t num_kv_heads = 0;
  std::int64_t head_dim = 0;  // of queries and keys; with MLA the sum of its two parts
  std::int64_t seq_len = 0;
  RopeConfig rope;
  MlaConfig mla;
  double norm_eps = 1e-5;
  QkNorm qk_norm = QkNorm::kNone;
  bool tie_embeddings = false;
  double init_std = 0.02;
  bool scale_output_init = true;  // output projections: init_std / sqrt(2 * num_layers)
  double swiglu_limit = 0;        // as in SwigluInput, of every FFN; 0: none
  Recompute recompute = Recompute::kNone;
  // Of one micro-batch's logits on one rank. A larger head works in chunks and makes their logits twice
  // (lm_head.h).
  std::int64_t max_logit_bytes = std::int64_t{1} << 30;
  MoeConfig moe;
  MtpConfig mtp;

  std::int64_t rope_dim() const { return mla.enabled() ? mla.qk_rope_head_dim : head_dim; }
  std::int64_t v_head_dim() const { return mla.enabled() ? mla.v_head_dim : head_dim; }
  double output_init_std() const {
    return scale_output_init ? init_std / std::sqrt(2.0 * static_cast<double>(num_layers)) : init_std;
  }
  bool is_moe_layer(std::int64_t layer) const {
    return moe.router.num_experts > 0 && layer >= moe.first_dense_layers;
  }
  bool operator==(const ModelConfig&) const = default;
};

}  // namespace jevons
