#include <algorithm>

#include "kernels/core/error.h"
#include "trainer/hf/deepseek_keys.h"
#include "trainer/hf/hf_config.h"
#include "trainer/hf/key_reader.h"
#include "trainer/hf/rope_keys.h"
#include "trainer/io/json.h"

namespace jevons {
namespace {

using Json = nlohmann::ordered_json;

// Options that a family cannot express, each with the reason.
class Obstacles {
 public:
  explicit Obstacles(std::string family) : family_(std::move(family)) {}
  void require(bool holds, const std::string& option, const std::string& reason) {
    if (!holds) text_ += fmt::format("\n  {}: {}", option, reason);
  }
  void add(const std::string& obstacle) { text_ += "\n  " + obstacle; }
  void throw_if_any() const {
    if (!text_.empty()) fail(ExitCode::kUsage, "a model of {} cannot express:{}", family_, text_);
  }

 private:
  std::string family_, text_;
};

// By what no other family has.
Family nearest_family(const ModelConfig& model) {
  if (model.mla.enabled()) {
    return model.moe.router.score == ScoreFunction::kSigmoid ? Family::kDeepseekV3 : Family::kDeepseekV2;
  }
  if (model.moe.router.num_experts == 0) return Family::kLlama;
  if (model.qk_norm == QkNorm::kHead) return Family::kQwen3Moe;
  return model.qk_norm == QkNorm::kHidden ? Family::kOlmoe : Family::kMixtral;
}

// Weights are a softmax over all experts, then over the chosen ones if `renormalizes`: choosing before the
// softmax is the same function as renormalising after it.
bool renormalizes(const RouterRule& rule) {
  return rule.renormalize || rule.top_k_before_score;
}

void check_router(const MoeConfig& moe, Family family, Obstacles& obstacles) {
  const RouterRule& rule = moe.router;
  obstacles.require(rule.score == ScoreFunction::kSoftmax, "model.moe.router.score", "it has softmax");
  obstacles.require(rule.scaling_factor == 1, "model.moe.router.scaling_factor", "it has none");
  obstacles.require(rule.groups == 1, "model.moe.router.groups", "it has none");
  obstacles.require(!moe.use_selection_bias, "model.moe.router.selection_bias", "it has none");
  obstacles.require(family != Family::kMixtral || renormalizes(rule), "model.moe.router.renormalize",
                    "false is for models with model.qk_norm alone");
}

void check_experts(const ModelConfig& model, Family family, Obstacles& obstacles) {
  const MoeConfig& moe = model.moe;
  obstacles.require(moe.capacity_factor == 0, "model.moe.capacity_factor", "nothing is dropped there");
  obstacles.require(moe.num_shared_experts == 0, "model.moe.num_shared_experts", "it has none");
  obstacles.require(moe.first_dense_layers == 0 || family == Family::kQwen3Moe,
                    "model.moe.first_dense_layers", "it has none");
  check_router(moe, family, obstacles);
}

void write_experts(const ModelConfig& model, Family family, Json& config) {
  const MoeConfig& moe = model.moe;
  const double balance = moe.balance_loss + moe.sequence_balance_loss + moe.global_balance_loss;
  config[family == Family::kMixtral ? "num_local_experts" : "num_experts"] = moe.router.num_experts;
  config["num_experts_per_tok"] = moe.router.top_k;
  config["router_aux_loss_coef"] = balance / static_cast<double>(moe.router.top_k);
  config["output_router_logits"] = false;
  if (family == Family::kMixtral) {
    config["sliding_window"] = nullptr;
    return;
  }
  config["norm_topk_prob"] = renormalizes(moe.router);
  if (family == Family::kOlmoe) {
    config["clip_qkv"] = nullptr;
    return;
  }
  config["moe_intermediate_size"] = moe.expert_hidden_size;
  config["decoder_sparse_step"] = 1;
  config["mlp_only_layers"] = Json::array();
  for (std::int64_t layer = 0; layer < moe.first_dense_layers; ++layer)
    config["mlp_only_layers"].push_back(layer);
  config["use_sliding_window"] = false;
}

std::int64_t intermediate_size_of(const ModelConfig& model, Family family) {
  if (family == Family::kLlama) return model.ffn_hidden_size;
  if (family == Family::kMixtral || family == Family::kOlmoe) return model.moe.expert_hidden_size;
  return model.ffn_hidden_size > 0 ? model.ffn_hidden_size : model.moe.expert_hidden_size;
}

// The longest sequence that it is said to take: at least those of training.
std::int64_t longest_of(const ModelConfig& model, const nlohmann::json& original) {
  if (model.rope.scaling == RopeScaling::kDynamic) return model.rope.original_seq_len;
  const auto found = original.find("max_position_embeddings");
  const bool known = found != original.end() && found->is_number_unsigned();
  return std::max(model.seq_len, known ? found->get<std::int64_t>() : 0);
}

nlohmann::json parse_original(const std::string& text) {
  constexpr int kMostDepth = 16;
  if (text.empty()) return nlohmann::json::object();
  nlohmann::json original = parse_strict_json(text, "the config.json that came with the weights", kMostDepth);
  return original.is_object() ? original : nlohmann::json::object();
}

}  // namespace

Family family_of(const ModelConfig& model) {
  const Family family = nearest_family(model);
  Obstacles obstacles{std::string(architecture_of(family))};
  obstacles.require(!model.moe.router.forced_balance, "model.moe.router.forced_balance",
                    "tokens choose there");
  if (is_latent(family)) {
    for (const std::string& obstacle : deepseek_obstacles(model, family)) obstacles.add(obstacle);
    obstacles.throw_if_any();
    return family;
  }
  obstacles.require(model.rope.layout == RopeLayout::kHalf, "model.rope.layout", "it has half");
  obstacles.require(model.mtp.depth == 0, "model.mtp.depth", "it has none");
  obstacles.require(model.swiglu_limit == 0, "model.swiglu_limit", "it has none");
  if (family == Family::kLlama) {
    obstacles.require(model.qk_norm == QkNorm::kNone, "model.qk_norm", "it has none");
    obstacles.require(model.hidden_size % model.num_heads == 0, "model.num_heads",
                      "transformers 5 wants it to divide model.hidden_size");
  } else {
    check_experts(model, family, obstacles);
  }
  obstacles.require(family != Family::kOlmoe || model.num_heads * model.head_dim == model.hidden_size,
                    "model.head_dim", "it is model.hidden_size / model.num_heads");
  obstacles.throw_if_any();
  return family;
}

std::string format_hf_config(const ModelConfig& model, Precision precision, const std::string& original) {
  const Family family = family_of(model);
  const nlohmann::json before = parse_original(original);
  Json config;
  config["architectures"] = {architecture_of(family)};
  config["model_type"] = model_type_of(family);
  config["vocab_size"] = model.vocab_size;
  config["hidden_size"] = model.hidden_size;
  config["intermediate_size"] = intermediate_size_of(model, family);
  config["num_hidden_layers"] = model.num_layers;
  config["num_attention_heads"] = model.num_heads;
  config["num_key_value_heads"] = model.num_kv_heads;
  if (family != Family::kOlmoe && !is_latent(family)) config["head_dim"] = model.head_dim;
  config["hidden_act"] = "silu";
  config["max_position_embeddings"] = longest_of(model, before);
  config["rms_norm_eps"] = model.norm_eps;
  write_rope(model.rope, config);
  config["tie_word_embeddings"] = model.tie_embeddings;
  config["attention_bias"] = false;
  config["attention_dropout"] = 0.0;
  if (family == Family::kLlama || family == Family::kDeepseekV2) config["mlp_bias"] = false;
  if (is_latent(family)) write_deepseek(model, family, config);
  if (family != Family::kLlama && !is_latent(family)) write_experts(model, family, config);
  config["initializer_range"] = model.init_std;
  config["torch_dtype"] = precision == Precision::kBF16 ? "bfloat16" : "float32";
  for (const char* key : {"bos_token_id", "eos_token_id", "pad_token_id"}) {
    config[key] = before.contains(key) ? Json(before[key]) : Json(nullptr);
  }
  config["use_cache"] = true;
  config["transformers_version"] = "4.57.3";
  return config.dump(2) + "\n";
}

}  // namespace jevons
