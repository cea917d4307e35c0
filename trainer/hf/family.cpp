#include "trainer/hf/family.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace jevons {
namespace {

struct FamilyFacts {
  Family family;
  std::string_view model_type, architecture;
};
constexpr std::array kFamilies = {FamilyFacts{Family::kLlama, "llama", "LlamaForCausalLM"},
                                  FamilyFacts{Family::kMixtral, "mixtral", "MixtralForCausalLM"},
                                  FamilyFacts{Family::kQwen3Moe, "qwen3_moe", "Qwen3MoeForCausalLM"},
                                  FamilyFacts{Family::kOlmoe, "olmoe", "OlmoeForCausalLM"},
                                  FamilyFacts{Family::kDeepseekV2, "deepseek_v2", "DeepseekV2ForCausalLM"},
                                  FamilyFacts{Family::kDeepseekV3, "deepseek_v3", "DeepseekV3ForCausalLM"}};

// DeepSeek-V3's architecture, layer for layer, and its keys (moonshotai/Kimi-K2-Base: config.json).
constexpr std::string_view kKimiK2 = "kimi_k2";

const FamilyFacts& facts_of(Family family) {
  return *std::find_if(kFamilies.begin(), kFamilies.end(),
                       [&](const FamilyFacts& facts) { return facts.family == family; });
}

class Collector {
 public:
  Collector(Family family, const ModelConfig& model) : family_(family), model_(model) {}

  std::vector<WeightPlace> collect() {
    const Shape table{model_.vocab_size, model_.hidden_size}, vector{model_.hidden_size};
    add("embedding", kEmbeddingTensor, table);
    for (std::int64_t layer = 0; layer < model_.num_layers; ++layer) add_layer(layer);
    for (std::int64_t depth = 0; depth < model_.mtp.depth; ++depth) add_mtp(model_.num_layers + depth);
    add("final_norm", "model.norm.weight", vector);
    if (!model_.tie_embeddings) add("lm_head", kHeadTensor, table);
    return std::move(places_);
  }

 private:
  void add(std::string name, std::string hf_name, const Shape& shape, const RotaryRows& rotary = {}) {
    places_.push_back({std::move(name), std::move(hf_name), shape, false, rotary});
  }

  // A whole layer, what joins it to the model, and copies of the model's tables, which readers of vLLM want.
  void add_mtp(std::int64_t layer) {
    add_layer(layer);
    const std::int64_t width = model_.hidden_size;
    const Shape table{model_.vocab_size, width};
    const std::string ours = fmt::format("layers.{}.mtp.", layer),
                      theirs = fmt::format("model.layers.{}.", layer);
    add(ours + "enorm", theirs + "enorm.weight", {width});
    add(ours + "hnorm", theirs + "hnorm.weight", {width});
    add(ours + "eh_proj", theirs + "eh_proj.weight", {width, 2 * width});
    add(ours + "norm", theirs + "shared_head.norm.weight", {width});
    places_.push_back({"embedding", theirs + "embed_tokens.weight", table, true});
    places_.push_back(
        {model_.tie_embeddings ? "embedding" : "lm_head", theirs + "shared_head.head.weight", table, true});
  }

  void add_layer(std::int64_t layer) {
    const std::string ours = fmt::format("layers.{}.", layer),
                      theirs = fmt::format("model.layers.{}.", layer);
    add(ours + "attn_norm", theirs + "input_layernorm.weight", {model_.hidden_size});
    add_attention(ours + "attn.", theirs + "self_attn.");
    add(ours + "ffn_norm", theirs + "post_attention_layernorm.weight", {model_.hidden_size});
    if (model_.is_moe_layer(layer)) {
      add_moe(ours + "moe.", theirs + (family_ == Family::kMixtral ? "block_sparse_moe." : "mlp."));
    } else {
      add_ffn(ours + "ffn.", theirs + "mlp.", model_.ffn_hidden_size);
    }
  }

  void add_latent_attention(const std::string& ours, const std::string& theirs) {
    const MlaConfig& mla = model_.mla;
    const std::int64_t width = model_.hidden_size, heads = model_.num_heads;
    const std::int64_t q = heads * model_.head_dim, latent = mla.kv_lora_rank, turned = mla.qk_rope_head_dim;
    const RotaryRows of_heads{model_.head_dim, turned}, shared{latent + turned, turned};
    if (mla.q_lora_rank == 0) {
      add(ours + "q", theirs + "q_proj.weight", {q, width}, of_heads);
    } else {
      add(ours + "q_a", theirs + "q_a_proj.weight", {mla.q_lora_rank, width});
      add(ours + "q_a_norm", theirs + "q_a_layernorm.weight", {mla.q_lora_rank});
      add(ours + "q_b", theirs + "q_b_proj.weight", {q, mla.q_lora_rank}, of_heads);
    }
    add(ours + "kv_a", theirs + "kv_a_proj_with_mqa.weight", {latent + turned, width}, shared);
    add(ours + "kv_a_norm", theirs + "kv_a_layernorm.weight", {latent});
    add(ours + "kv_b", theirs + "kv_b_proj.weight",
        {heads * (mla.qk_nope_head_dim + mla.v_head_dim), latent});
    add(ours + "o", theirs + "o_proj.weight", {width, heads * mla.v_head_dim});
  }

  void add_attention(const std::string& ours, const std::string& theirs) {
    if (model_.mla.enabled()) return add_latent_attention(ours, theirs);
    const std::int64_t width = model_.hidden_size, dim = model_.head_dim;
    const std::int64_t q = model_.num_heads * dim, kv = model_.num_kv_heads * dim;
    add(ours + "q", theirs + "q_proj.weight", {q, width});
    add(ours + "k", theirs + "k_proj.weight", {kv, width});
    add(ours + "v", theirs + "v_proj.weight", {kv, width});
    add(ours + "o", theirs + "o_proj.weight", {width, q});
    if (model_.qk_norm == QkNorm::kNone) return;
    const bool whole = model_.qk_norm == QkNorm::kHidden;
    add(ours + "q_norm", theirs + "q_norm.weight", {whole ? q : dim});
    add(ours + "k_norm", theirs + "k_norm.weight", {whole ? kv : dim});
  }

  void add_ffn(const std::string& ours, const std::string& theirs, std::int64_t hidden) {
    const Shape in{hidden, model_.hidden_size}, out{model_.hidden_size, hidden};
    const bool numbered = family_ == Family::kMixtral;
    add(ours + "gate", theirs + (numbered ? "w1.weight" : "gate_proj.weight"), in);
    add(ours + "up", theirs + (numbered ? "w3.weight" : "up_proj.weight"), in);
    add(ours + "down", theirs + (numbered ? "w2.weight" : "down_proj.weight"), out);
  }

  void add_moe(const std::string& ours, const std::string& theirs) {
    const std::int64_t experts = model_.moe.router.num_experts;
    add(ours + "router", theirs + "gate.weight", {experts, model_.hidden_size});
    if (model_.moe.use_selection_bias) {
      add(ours + "router.bias", theirs + "gate.e_score_correction_bias", {experts});
    }
    for (std::int64_t e = 0; e < experts; ++e) {
      const std::string expert = fmt::format("experts.{}.", e);
      add_ffn(ours + expert, theirs + expert, model_.moe.expert_hidden_size);
    }
    const std::int64_t shared = model_.moe.num_shared_experts * model_.moe.expert_hidden_size;
    if (shared > 0) add_ffn(ours + "shared.", theirs + "shared_experts.", shared);
  }

  Family family_;
  const ModelConfig& model_;
  std::vector<WeightPlace> places_;
};

}  // namespace

std::string_view model_type_of(Family family) {
  return facts_of(family).model_type;
}

std::string_view architecture_of(Family family) {
  return facts_of(family).architecture;
}

bool is_latent(Family family) {
  return family == Family::kDeepseekV2 || family == Family::kDeepseekV3;
}

std::optional<Family> family_named(std::string_view model_type) {
  if (model_type == kKimiK2) return Family::kDeepseekV3;
  for (const FamilyFacts& facts : kFamilies) {
    if (facts.model_type == model_type) return facts.family;
  }
  return std::nullopt;
}

std::string list_families() {
  std::vector<std::string_view> names;
  for (const FamilyFacts& facts : kFamilies) names.push_back(facts.model_type);
  names.push_back(kKimiK2);
  return fmt::format("{}", fmt::join(names, ", "));
}

std::vector<WeightPlace> weight_places(Family family, const ModelConfig& model) {
  return Collector(family, model).collect();
}

bool is_kept_in_f32(std::string_view hf_name) {
  return hf_name.ends_with(".e_score_correction_bias");
}

bool is_ignored_tensor(std::string_view hf_name) {
  return hf_name.ends_with(".rotary_emb.inv_freq");
}

}  // namespace jevons
