#include <algorithm>

#include "kernels/core/error.h"
#include "trainer/hf/deepseek_keys.h"
#include "trainer/hf/hf_config.h"
#include "trainer/hf/key_reader.h"
#include "trainer/hf/rope_keys.h"
#include "trainer/io/json.h"

namespace jevons {
namespace {

// What a key that is absent means.
struct FamilyDefaults {
  double rope_theta = 10000, norm_eps = 1e-6;
  std::int64_t seq_len = 2048;
  std::int64_t kv_heads = 0;  // 0: as many as heads
};

FamilyDefaults defaults_of(Family family) {
  switch (family) {
    case Family::kLlama:
      return {};
    case Family::kMixtral:
      return {.rope_theta = 1e6, .norm_eps = 1e-5, .seq_len = 131072, .kv_heads = 8};
    case Family::kQwen3Moe:
      return {.seq_len = 32768, .kv_heads = 4};
    case Family::kOlmoe:
      return {.norm_eps = 1e-5, .seq_len = 4096};
    case Family::kDeepseekV2:
      return {};
    case Family::kDeepseekV3:
      return {.seq_len = 4096};
  }
  return {};
}

Family read_family(KeyReader& keys) {
  const std::optional<std::string> type = keys.text("model_type");
  if (!type) fail(ExitCode::kData, "{}: model_type is missing", keys.where());
  const std::optional<Family> family = family_named(*type);
  if (!family) keys.refuse("model_type", fmt::format("models that are read: {}", list_families()));
  const nlohmann::json* architectures = keys.list("architectures");
  if (architectures != nullptr && !architectures->empty() &&
      (*architectures)[0] != std::string(architecture_of(*family))) {
    keys.refuse("architectures", fmt::format("only {} is read", architecture_of(*family)));
  }
  return *family;
}

void read_sizes(KeyReader& keys, Family family, ModelConfig& model) {
  const FamilyDefaults defaults = defaults_of(family);
  model.vocab_size = keys.size("vocab_size");
  model.num_layers = keys.size("num_hidden_layers");
  model.hidden_size = keys.size("hidden_size");
  model.num_heads = keys.size("num_attention_heads");
  model.num_kv_heads =
      keys.size_or("num_key_value_heads", defaults.kv_heads > 0 ? defaults.kv_heads : model.num_heads);
  model.head_dim = is_latent(family) ? 1 : keys.size_or("head_dim", 0);  // latent: has widths of its own
  if (model.head_dim == 0) {
    if (model.hidden_size % model.num_heads != 0) {
      fail(ExitCode::kData,
           "{}: hidden_size {} is not divisible by num_attention_heads {}, and there is no head_dim",
           keys.where(), model.hidden_size, model.num_heads);
    }
    model.head_dim = model.hidden_size / model.num_heads;
  }
  model.seq_len = keys.size_or("max_position_embeddings", defaults.seq_len);
  model.norm_eps = keys.number("rms_norm_eps").value_or(defaults.norm_eps);
  model.tie_embeddings = keys.boolean("tie_word_embeddings").value_or(false);
  if (const double std = keys.number("initializer_range").value_or(0); std > 0) model.init_std = std;
}

// What every family could have and none is computed with here.
void refuse_variants(KeyReader& keys) {
  const std::string activation = keys.text("hidden_act").value_or("silu");
  if (activation != "silu" && activation != "swish") keys.refuse("hidden_act", "only silu is computed here");
  for (const char* key :
       {"attention_bias", "mlp_bias", "use_sliding_window", "clip_qkv", "final_logit_softcapping",
        "attn_logit_softcapping", "logit_scale", "logits_scaling", "embedding_multiplier",
        "residual_multiplier", "attention_multiplier", "query_pre_attn_scalar", "no_rope_layers",
        "attention_chunk_size", "attn_temperature_tuning"}) {
    keys.refuse_unless_off(key);
  }
  const nlohmann::json* layers = keys.list("layer_types");
  if (layers != nullptr && std::any_of(layers->begin(), layers->end(),
                                       [](const nlohmann::json& type) { return type != "full_attention"; })) {
    keys.refuse("layer_types", "only full attention is computed here");
  }
}

void read_sliding_window(KeyReader& keys, Family family, std::int64_t seq_len) {
  const std::optional<std::int64_t> window = keys.integer("sliding_window");
  keys.pass_over({"max_window_layers"});
  const bool used = family == Family::kMixtral;  // that of Qwen3 only with use_sliding_window
  if (used && window && *window < seq_len)
    keys.refuse("sliding_window", "attention here is over all positions");
}

// For training alone: a loss that is top_k at perfect balance, ours is 1.
double balance_loss_of(KeyReader& keys, const ModelConfig& model) {
  const double coefficient = keys.number("router_aux_loss_coef").value_or(0);
  if (coefficient < 0) keys.refuse("router_aux_loss_coef", "it must be at least 0");
  return coefficient * static_cast<double>(model.moe.router.top_k);
}

void read_mixtral(KeyReader& keys, ModelConfig& model) {
  model.moe.router.num_experts = keys.size_or("num_local_experts", 8);
  model.moe.router.top_k = keys.size_or("num_experts_per_tok", 2);
  model.moe.expert_hidden_size = keys.size("intermediate_size");
  model.moe.balance_loss = balance_loss_of(keys, model);
}

void read_olmoe(KeyReader& keys, ModelConfig& model) {
  if (model.head_dim * model.num_heads != model.hidden_size) {
    keys.refuse("head_dim", "OLMoE's is hidden_size / num_attention_heads");
  }
  model.qk_norm = QkNorm::kHidden;
  model.moe.router.num_experts = keys.size_or("num_experts", 64);
  model.moe.router.top_k = keys.size_or("num_experts_per_tok", 8);
  model.moe.router.renormalize = keys.boolean("norm_topk_prob").value_or(false);
  model.moe.expert_hidden_size = keys.size("intermediate_size");
  model.moe.balance_loss = balance_loss_of(keys, model);
}

// Dense layers, which must be the first ones. Returns their number.
std::int64_t dense_layers_of(KeyReader& keys, std::int64_t num_layers) {
  if (keys.size_or("decoder_sparse_step", 1) != 1) {
    keys.refuse("decoder_sparse_step", "dense layers must be the first ones");
  }
  const nlohmann::json* listed = keys.list("mlp_only_layers");
  if (listed == nullptr) return 0;
  std::vector<std::int64_t> layers;
  for (const nlohmann::json& layer : *listed) {
    if (!layer.is_number_integer()) keys.refuse("mlp_only_layers", "it must hold layers");
    layers.push_back(layer.get<std::int64_t>());
  }
  std::sort(layers.begin(), layers.end());
  for (std::size_t i = 0; i < layers.size(); ++i) {
    if (layers[i] != static_cast<std::int64_t>(i)) {
      keys.refuse("mlp_only_layers", "dense layers must be the first ones");
    }
  }
  const auto count = static_cast<std::int64_t>(layers.size());
  if (count >= num_layers) keys.refuse("mlp_only_layers", "it leaves no layer for the experts");
  return count;
}

void read_qwen3_moe(KeyReader& keys, ModelConfig& model) {
  model.qk_norm = QkNorm::kHead;
  model.moe.router.num_experts = keys.size_under({"num_experts", "num_local_experts"});
  model.moe.router.top_k = keys.size_or("num_experts_per_tok", 8);
  model.moe.router.renormalize = keys.boolean("norm_topk_prob").value_or(false);
  model.moe.expert_hidden_size = keys.size_or("moe_intermediate_size", 768);
  model.moe.first_dense_layers = dense_layers_of(keys, model.num_layers);
  const std::int64_t dense = keys.size_or("intermediate_size", 6144);
  if (model.moe.first_dense_layers > 0) model.ffn_hidden_size = dense;
  model.moe.global_balance_loss = balance_loss_of(keys, model);
}

void read_ffn(KeyReader& keys, Family family, ModelConfig& model) {
  switch (family) {
    case Family::kLlama:
      model.ffn_hidden_size = keys.size("intermediate_size");
      return;
    case Family::kMixtral:
      return read_mixtral(keys, model);
    case Family::kQwen3Moe:
      return read_qwen3_moe(keys, model);
    case Family::kOlmoe:
      return read_olmoe(keys, model);
    case Family::kDeepseekV2:
    case Family::kDeepseekV3:
      return read_deepseek(keys, family, model);
  }
}

Precision read_precision(KeyReader& keys) {
  const std::optional<std::string> now = keys.text("dtype"), before = keys.text("torch_dtype");
  const std::string name = now.value_or(before.value_or("float32"));
  return name == "float32" ? Precision::kF32 : Precision::kBF16;
}

void read_quantization(KeyReader& keys, HfConfig& config) {
  const nlohmann::json* object = keys.object("quantization_config");
  if (object == nullptr) return;
  KeyReader inner(*object, keys.where() + ": quantization_config");
  if (inner.text("quant_method") != "fp8") {
    keys.refuse("quantization_config", "only quant_method fp8 with blocks is read");
  }
  if (inner.text("fmt").value_or("e4m3") != "e4m3") inner.refuse("fmt", "only e4m3 is read");
  const nlohmann::json* block = inner.list("weight_block_size");
  if (block == nullptr) keys.refuse("quantization_config", "only weights scaled in blocks are read");
  if (block->size() != 2) inner.refuse("weight_block_size", "a block has two sides");
  for (std::size_t i = 0; i < 2; ++i) {
    const nlohmann::json& side = (*block)[i];
    const bool good =
        side.is_number_unsigned() && side.get<std::uint64_t>() >= 1 && side.get<std::uint64_t>() <= 1 << 20;
    if (!good) inner.refuse("weight_block_size", "a side is no size");
    config.scale_block[i] = side.get<std::int64_t>();
  }
}

// What says nothing about the model's function, or of how it was trained.
void pass_over_known(KeyReader& keys) {
  keys.pass_over({"use_cache",
                  "transformers_version",
                  "attention_dropout",
                  "pretraining_tp",
                  "output_router_logits",
                  "router_jitter_noise",
                  "bos_token_id",
                  "eos_token_id",
                  "pad_token_id",
                  "sep_token_id",
                  "decoder_start_token_id",
                  "_name_or_path",
                  "auto_map",
                  "return_dict",
                  "output_hidden_states",
                  "output_attentions",
                  "id2label",
                  "label2id",
                  "problem_type",
                  "chunk_size_feed_forward",
                  "is_encoder_decoder",
                  "is_decoder",
                  "add_cross_attention",
                  "tie_encoder_decoder",
                  "cross_attention_hidden_size",
                  "pruned_heads",
                  "task_specific_params",
                  "finetuning_task",
                  "tokenizer_class",
                  "prefix",
                  "torchscript",
                  "use_bfloat16",
                  "tf_legacy_loss",
                  "intermediate_size"});
}

}  // namespace

HfConfig parse_hf_config(std::string_view text, const std::string& path) {
  constexpr int kMostDepth = 16;
  const nlohmann::json root = parse_strict_json(text, path, kMostDepth);
  if (!root.is_object()) fail(ExitCode::kData, "{}: is not a JSON object", path);
  KeyReader keys(root, path);
  HfConfig config;
  config.family = read_family(keys);
  read_sizes(keys, config.family, config.model);
  refuse_variants(keys);
  read_sliding_window(keys, config.family, config.model.seq_len);
  read_rope(keys, defaults_of(config.family).rope_theta, config.model);
  read_ffn(keys, config.family, config.model);
  if (is_latent(config.family)) config.rotary_halves = has_rotary_halves(keys, config.family);
  config.precision = read_precision(keys);
  read_quantization(keys, config);
  pass_over_known(keys);
  config.not_taken = keys.not_asked_for();
  return config;
}

RunConfig run_of(const HfConfig& config, const std::string& path) {
  RunConfig run;
  run.name = "imported";
  run.run_dir = "runs/imported";
  run.model = config.model;
  run.train.global_batch_size = 1;
  run.train.precision = config.precision;
  try {
    return parse_run_config(run.to_yaml(), path + " (as a configuration)", {});
  } catch (const Error& error) {
    fail(ExitCode::kData, "{}", error.what());
  }
}

}  // namespace jevons
