#include "tests/hf/folder_bed.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "kernels/core/rng.h"
#include "tests/state/scratch.h"
#include "trainer/hf/hf_config.h"

namespace jevons::test {

std::string safetensors_with_header(const std::string& json, std::size_t data) {
  std::string bytes(8, '\0');
  for (std::size_t i = 0; i < 8; ++i) bytes[i] = static_cast<char>(json.size() >> (8 * i) & 0xff);
  return bytes + json + std::string(data, '\0');
}

std::string safetensors_of(const FolderTensors& tensors) {
  std::string json = R"({"__metadata__":{"format":"pt"})", data;
  for (const auto& [name, tensor] : tensors) {
    json += fmt::format(R"(,"{}":{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})", name, tensor.dtype,
                        fmt::join(tensor.shape, ","), data.size(), data.size() + tensor.bytes.size());
    data += tensor.bytes;
  }
  return safetensors_with_header(json + "}", 0) + data;
}

std::string bytes_of(const std::vector<float>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
}

std::string tiny_config(Family family, const std::string& more) {
  const std::string common = fmt::format(
      R"("model_type":"{}","architectures":["{}"],"vocab_size":20,"hidden_size":16,"num_hidden_layers":2,
         "num_attention_heads":4,"num_key_value_heads":{},"max_position_embeddings":32,"rope_theta":10000.0,
         "rms_norm_eps":1e-05,"torch_dtype":"float32")",
      model_type_of(family), architecture_of(family),
      family == Family::kDeepseekV2 || family == Family::kDeepseekV3 ? 4 : 2);
  // Of DeepSeek; all heads have keys.
  static const std::string kLatent =
      R"("kv_lora_rank":8,"qk_nope_head_dim":4,"qk_rope_head_dim":2,"v_head_dim":6,"intermediate_size":24,
         "moe_intermediate_size":12,"n_routed_experts":4,"n_shared_experts":1,"num_experts_per_tok":2,
         "first_k_dense_replace":1)";
  std::string own;
  switch (family) {
    case Family::kLlama:
      own = R"("intermediate_size":24)";
      break;
    case Family::kMixtral:
      own = R"("intermediate_size":12,"num_local_experts":4,"num_experts_per_tok":2)";
      break;
    case Family::kQwen3Moe:
      own =
          R"("intermediate_size":24,"moe_intermediate_size":12,"num_experts":4,"num_experts_per_tok":2,"head_dim":8,
               "norm_topk_prob":true,"mlp_only_layers":[0])";
      break;
    case Family::kOlmoe:
      own = R"("intermediate_size":12,"num_experts":4,"num_experts_per_tok":2)";
      break;
    case Family::kDeepseekV2:
      own = kLatent + R"(,"q_lora_rank":null,"topk_method":"greedy","n_group":null,"topk_group":null)";
      break;
    case Family::kDeepseekV3:
      own =
          kLatent +
          R"(,"q_lora_rank":6,"n_group":2,"topk_group":1,"topk_method":"noaux_tc","scoring_func":"sigmoid")";
      break;
  }
  return "{" + common + "," + own + (more.empty() ? "" : "," + more) + "}";
}

FolderTensors tensors_of(const std::string& text) {
  const HfConfig config = parse_hf_config(text, "config.json");
  FolderTensors tensors;
  for (const WeightPlace& place : weight_places(config.family, config.model)) {
    const RandomStream random(5, place.hf_name);
    std::vector<float> values(static_cast<std::size_t>(place.shape.numel()));
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(random.uniform(i)) - 0.5F;
    const auto dims = place.shape.dims();
    tensors[place.hf_name] = {"F32", {dims.begin(), dims.end()}, bytes_of(values)};
  }
  return tensors;
}

FolderTensors tiny_tensors(Family family) {
  return tensors_of(tiny_config(family));
}

void write_folder(const std::string& directory, const std::string& config, const FolderTensors& tensors,
                  std::size_t files) {
  std::filesystem::create_directories(directory);
  write_contents(directory + "/config.json", config);
  if (files == 1) return write_contents(directory + "/model.safetensors", safetensors_of(tensors));
  std::vector<FolderTensors> parts(files);
  std::string map;
  std::size_t i = 0;
  for (const auto& [name, tensor] : tensors) {
    const std::size_t part = i++ % files;
    parts[part][name] = tensor;
    map += fmt::format("{}\"{}\":\"part-{}.safetensors\"", map.empty() ? "" : ",", name, part);
  }
  for (std::size_t part = 0; part < files; ++part) {
    write_contents(fmt::format("{}/part-{}.safetensors", directory, part), safetensors_of(parts[part]));
  }
  write_contents(directory + "/model.safetensors.index.json",
                 "{\"metadata\":{},\"weight_map\":{" + map + "}}");
}

void write_tiny(const std::string& directory, Family family, std::size_t files) {
  write_folder(directory, tiny_config(family), tiny_tensors(family), files);
}

}  // namespace jevons::test
