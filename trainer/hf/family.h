// Families of models in Hugging Face folders, and the place of each weight of ours there. A tensor has the
// same shape on both sides, and the same rows but for rotary ones; docs/huggingface.md has the table.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/core/tensor.h"
#include "trainer/hf/rotary_rows.h"
#include "trainer/model/model_config.h"

namespace jevons {

enum class Family : std::uint8_t { kLlama, kMixtral, kQwen3Moe, kOlmoe, kDeepseekV2, kDeepseekV3 };

std::string_view model_type_of(Family family);    // "qwen3_moe"
std::string_view architecture_of(Family family);  // "Qwen3MoeForCausalLM"
bool is_latent(Family family);                    // with latent attention: DeepSeek
// By model_type, also one that stands for the same model under another name.
std::optional<Family> family_named(std::string_view model_type);
std::string list_families();  // "llama, mixtral, ..."

struct WeightPlace {
  std::string name;     // ours: "layers.0.attn.q"
  std::string hf_name;  // "model.layers.0.self_attn.q_proj.weight"
  Shape shape;
  bool is_copy = false;    // of a tensor that stands under another name too: written, not read
  RotaryRows rotary = {};  // of latent attention, whose pairs are neighbours or halves
};

// Every weight and state tensor of the model, each once but for copies, in the order of a model's layers.
std::vector<WeightPlace> weight_places(Family family, const ModelConfig& model);

// Selection biases are fp32 in a file of any type.
bool is_kept_in_f32(std::string_view hf_name);

inline constexpr const char* kHeadTensor = "lm_head.weight";
inline constexpr const char* kEmbeddingTensor = "model.embed_tokens.weight";
// Tensors of a folder that are no weights: tables that its writer could have left out.
bool is_ignored_tensor(std::string_view hf_name);

}  // namespace jevons
