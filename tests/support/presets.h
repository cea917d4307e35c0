// Published models as ModelConfigs: shapes from their config.json files, for counting parameters and dry
// runs.
#pragma once

#include "trainer/model/model_config.h"

namespace jevons::test {

struct DenseShape {
  std::int64_t layers, hidden, ffn, heads;
};

inline ModelConfig llama3(const DenseShape& shape) {
  ModelConfig config;
  config.vocab_size = 128256;
  config.num_layers = shape.layers;
  config.hidden_size = shape.hidden;
  config.ffn_hidden_size = shape.ffn;
  config.num_heads = shape.heads;
  config.num_kv_heads = 8;
  config.head_dim = 128;
  config.seq_len = 8192;
  config.rope.theta = 500000;
  return config;
}
inline ModelConfig llama3_8b() {
  return llama3({.layers = 32, .hidden = 4096, .ffn = 14336, .heads = 32});
}
inline ModelConfig llama3_70b() {
  return llama3({.layers = 80, .hidden = 8192, .ffn = 28672, .heads = 64});
}
inline ModelConfig llama3_405b() {
  return llama3({.layers = 126, .hidden = 16384, .ffn = 53248, .heads = 128});
}

inline ModelConfig mixtral_8x7b() {
  ModelConfig config;
  config.vocab_size = 32000;
  config.num_layers = 32;
  config.hidden_size = 4096;
  config.num_heads = 32;
  config.num_kv_heads = 8;
  config.head_dim = 128;
  config.seq_len = 4096;
  config.rope.theta = 1e6;
  config.moe.router = {.num_experts = 8, .top_k = 2};
  config.moe.expert_hidden_size = 14336;
  return config;
}

inline ModelConfig olmoe_1b_7b() {
  ModelConfig config;
  config.vocab_size = 50304;
  config.num_layers = 16;
  config.hidden_size = 2048;
  config.num_heads = 16;
  config.num_kv_heads = 16;
  config.head_dim = 128;
  config.seq_len = 4096;
  config.qk_norm = QkNorm::kHidden;
  config.moe.router = {.num_experts = 64, .top_k = 8, .renormalize = false};
  config.moe.expert_hidden_size = 1024;
  config.moe.balance_loss = 0.01;
  config.moe.z_loss = 0.001;
  return config;
}

struct DeepSeekShape {
  std::int64_t vocab, layers, hidden, heads, ffn, expert_hidden;
  std::int64_t q_lora_rank = 1536;
};

inline ModelConfig deepseek(const DeepSeekShape& shape) {
  ModelConfig config;
  config.vocab_size = shape.vocab;
  config.num_layers = shape.layers;
  config.hidden_size = shape.hidden;
  config.ffn_hidden_size = shape.ffn;
  config.num_heads = config.num_kv_heads = shape.heads;
  config.head_dim = 192;
  config.seq_len = 4096;
  config.norm_eps = 1e-6;
  config.mla = {.kv_lora_rank = 512,
                .q_lora_rank = shape.q_lora_rank,
                .qk_nope_head_dim = 128,
                .qk_rope_head_dim = 64,
                .v_head_dim = 128};
  config.rope.layout = RopeLayout::kInterleaved;
  config.moe.expert_hidden_size = shape.expert_hidden;
  config.moe.first_dense_layers = 1;
  return config;
}
inline ModelConfig deepseek_v3() {
  ModelConfig config = deepseek({129280, 61, 7168, 128, 18432, 2048});
  config.moe.router = {.num_experts = 256,
                       .top_k = 8,
                       .score = ScoreFunction::kSigmoid,
                       .scaling_factor = 2.5,
                       .groups = 8,
                       .groups_kept = 4};
  config.moe.num_shared_experts = 1;
  config.moe.first_dense_layers = 3;
  config.moe.use_selection_bias = true;
  return config;
}
inline ModelConfig deepseek_v2() {
  ModelConfig config = deepseek({102400, 60, 5120, 128, 12288, 1536});
  config.moe.router = {.num_experts = 160,
                       .top_k = 6,
                       .renormalize = false,
                       .scaling_factor = 16,
                       .groups = 8,
                       .groups_kept = 3,
                       .group_score = GroupScore::kMax};
  config.moe.num_shared_experts = 2;
  return config;
}
inline ModelConfig deepseek_v2_lite() {
  ModelConfig config = deepseek({102400, 27, 2048, 16, 10944, 1408, 0});
  config.moe.router = {.num_experts = 64, .top_k = 6, .renormalize = false};
  config.moe.num_shared_experts = 2;
  return config;
}
inline ModelConfig kimi_k2() {
  ModelConfig config = deepseek({163840, 61, 7168, 64, 18432, 2048});
  config.moe.router = {
      .num_experts = 384, .top_k = 8, .score = ScoreFunction::kSigmoid, .scaling_factor = 2.827};
  config.moe.num_shared_experts = 1;
  config.moe.use_selection_bias = true;
  return config;
}
inline ModelConfig moonlight_16b_a3b() {
  ModelConfig config = deepseek({163840, 27, 2048, 16, 11264, 1408, 0});
  config.seq_len = 8192, config.norm_eps = 1e-5;
  config.moe.router = {
      .num_experts = 64, .top_k = 6, .score = ScoreFunction::kSigmoid, .scaling_factor = 2.446};
  config.moe.num_shared_experts = 2;
  config.moe.use_selection_bias = true;
  return config;
}

struct Qwen3Shape {
  std::int64_t layers, hidden, heads, expert_hidden;
};

inline ModelConfig qwen3_moe(const Qwen3Shape& shape) {
  ModelConfig config;
  config.vocab_size = 151936;
  config.num_layers = shape.layers;
  config.hidden_size = shape.hidden;
  config.num_heads = shape.heads;
  config.num_kv_heads = 4;
  config.head_dim = 128;
  config.seq_len = 4096;
  config.rope.theta = 1e6;
  config.norm_eps = 1e-6;
  config.qk_norm = QkNorm::kHead;
  config.moe.router = {.num_experts = 128, .top_k = 8};
  config.moe.expert_hidden_size = shape.expert_hidden;
  config.moe.global_balance_loss = 0.001;
  return config;
}
inline ModelConfig qwen3_30b_a3b() {
  return qwen3_moe({.layers = 48, .hidden = 2048, .heads = 32, .expert_hidden = 768});
}
inline ModelConfig qwen3_235b_a22b() {
  return qwen3_moe({.layers = 94, .hidden = 4096, .heads = 64, .expert_hidden = 1536});
}

}  // namespace jevons::test
