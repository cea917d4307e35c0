#include "trainer/model/model_config.h"

namespace jevons {
namespace {

std::int64_t qk_norm_weights(const ModelConfig& c) {
  if (c.qk_norm == QkNorm::kHead) return 2 * c.head_dim;
  if (c.qk_norm == QkNorm::kHidden) return (c.num_heads + c.num_kv_heads) * c.head_dim;
  return 0;
}

}  // namespace

LayoutLimits layout_limits(const ModelConfig& config) {
  return {.num_heads = config.num_heads,
          .num_kv_heads = config.num_kv_heads,
          .num_experts = config.moe.router.num_experts,
          .seq_len = config.seq_len,
          .vocab_size = config.vocab_size,
          .ffn_hidden_size = config.ffn_hidden_size};
}

ParamCount count_params(const ModelConfig& c) {
  const MoeConfig& moe = c.moe;
  const std::int64_t d = c.hidden_size, experts = moe.router.num_experts;
  const std::int64_t embedding = c.vocab_size * d;
  const std::int64_t attention = 2 * d * (c.num_heads + c.num_kv_heads) * c.head_dim;
  const std::int64_t layer_norms = 2 * d + qk_norm_weights(c);
  const std::int64_t expert = 3 * d * moe.expert_hidden_size;
  const std::int64_t bias = moe.use_selection_bias ? experts : 0;

  ParamCount count;
  count.total = count.active = embedding + d;  // input embedding and final norm
  count.matmul = embedding;                    // LM head, tied or not
  if (!c.tie_embeddings) count.total += embedding, count.active += embedding;
  for (std::int64_t layer = 0; layer < c.num_layers; ++layer) {
    std::int64_t all = attention, used = attention, extra = layer_norms;
    if (c.is_moe_layer(layer)) {
      all += d * experts + (experts + moe.num_shared_experts) * expert;
      used += d * experts + (moe.router.top_k + moe.num_shared_experts) * expert;
      extra += bias;
    } else {
      all += 3 * d * c.ffn_hidden_size;
      used += 3 * d * c.ffn_hidden_size;
    }
    count.total += all + extra;
    count.active += used + extra;
    count.matmul += used;
  }
  return count;
}

double model_flops_per_token(const ModelConfig& c) {
  const double attention = static_cast<double>(c.num_layers * c.num_heads * c.head_dim * c.seq_len);
  return 6 * static_cast<double>(count_params(c).matmul) + 6 * attention;
}

}  // namespace jevons
