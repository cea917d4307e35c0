#include "trainer/model/model_config.h"

namespace jevons {

LayoutLimits layout_limits(const ModelConfig& config) {
  return {.num_heads = config.num_heads,
          .num_kv_heads = config.num_kv_heads,
          .num_experts = config.moe.router.num_experts,
          .seq_len = config.seq_len,
          .vocab_size = config.vocab_size,
          .ffn_hidden_size = config.ffn_hidden_size};
}

}  // namespace jevons
