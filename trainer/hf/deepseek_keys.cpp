#include "trainer/hf/deepseek_keys.h"

#include "kernels/core/error.h"

namespace jevons {
namespace {

void read_attention(KeyReader& keys, ModelConfig& model) {
  MlaConfig& mla = model.mla;
  mla.kv_lora_rank = keys.size_or("kv_lora_rank", 512);
  mla.q_lora_rank = keys.has("q_lora_rank") ? keys.size_or("q_lora_rank", 0) : 1536;
  mla.qk_nope_head_dim = keys.size_or("qk_nope_head_dim", 128);
  mla.qk_rope_head_dim = keys.size_or("qk_rope_head_dim", 64);
  mla.v_head_dim = keys.size_or("v_head_dim", 128);
  if (model.num_kv_heads != model.num_heads) {
    keys.refuse("num_key_value_heads", "with latent attention each head has its own key");
  }
  model.head_dim = mla.qk_nope_head_dim + mla.qk_rope_head_dim;
  model.rope.layout = RopeLayout::kInterleaved;
}

void must_be(KeyReader& keys, const char* key, const std::string& wanted) {
  if (keys.text(key).value_or(wanted) != wanted)
    keys.refuse(key, fmt::format("only {} is computed here", wanted));
}

// transformers never renormalises the weights of V2, other programs do if norm_topk_prob says so.
void read_v2_router(KeyReader& keys, RouterRule& rule) {
  must_be(keys, "scoring_func", "softmax");
  if (keys.boolean("norm_topk_prob").value_or(false)) {
    keys.refuse("norm_topk_prob", "programs do not agree on what it means for this model_type");
  }
  rule.renormalize = false;
  rule.scaling_factor = keys.number("routed_scaling_factor").value_or(1);
  const std::string method = keys.text("topk_method").value_or("greedy");
  keys.pass_over({"n_group", "topk_group"});
  if (method == "greedy") return;
  if (method != "group_limited_greedy")
    keys.refuse("topk_method", "this choice of experts is not computed here");
  rule.groups = keys.size("n_group");
  rule.groups_kept = keys.size("topk_group");
  rule.group_score = GroupScore::kMax;
}

void read_v3_router(KeyReader& keys, MoeConfig& moe) {
  must_be(keys, "scoring_func", "sigmoid");
  must_be(keys, "topk_method", "noaux_tc");
  moe.use_selection_bias = true;
  moe.router.score = ScoreFunction::kSigmoid;
  moe.router.renormalize = keys.boolean("norm_topk_prob").value_or(true);
  moe.router.scaling_factor = keys.number("routed_scaling_factor").value_or(2.5);
  moe.router.group_score = GroupScore::kSumOfTop2;
  moe.router.groups = keys.size_or("n_group", 8);
  moe.router.groups_kept = keys.size_or("topk_group", 4);
}

void read_experts(KeyReader& keys, Family family, ModelConfig& model) {
  const bool v3 = family == Family::kDeepseekV3;
  MoeConfig& moe = model.moe;
  moe.router.num_experts = keys.size_under({"n_routed_experts", "num_local_experts", "num_experts"});
  moe.router.top_k = keys.size("num_experts_per_tok");
  moe.expert_hidden_size = keys.size("moe_intermediate_size");
  moe.num_shared_experts = keys.integer("n_shared_experts").value_or(0);
  if (moe.num_shared_experts < 0) keys.refuse("n_shared_experts", "it is no size");
  moe.first_dense_layers = keys.integer("first_k_dense_replace").value_or(v3 ? 3 : 0);
  if (moe.first_dense_layers < 0 || moe.first_dense_layers >= model.num_layers) {
    keys.refuse("first_k_dense_replace", "it must leave layers for the experts");
  }
  if (keys.size_or("moe_layer_freq", 1) != 1)
    keys.refuse("moe_layer_freq", "dense layers must be the first ones");
  if (moe.first_dense_layers > 0) model.ffn_hidden_size = keys.size("intermediate_size");
  v3 ? read_v3_router(keys, moe) : read_v2_router(keys, moe.router);
  const double alpha = keys.number("aux_loss_alpha").value_or(0);
  if (alpha < 0) keys.refuse("aux_loss_alpha", "it must be at least 0");
  (keys.boolean("seq_aux").value_or(true) ? moe.sequence_balance_loss : moe.balance_loss) = alpha;
}

}  // namespace

void read_deepseek(KeyReader& keys, Family family, ModelConfig& model) {
  read_attention(keys, model);
  read_experts(keys, family, model);
  // Two names of one key; an absent one stands for none here, whatever a class's default is.
  const std::string key = keys.has("num_mtp_layers") ? "num_mtp_layers" : "num_nextn_predict_layers";
  const std::int64_t depth = keys.integer(key).value_or(0);
  if (depth < 0 || (depth > 0 && family != Family::kDeepseekV3))
    keys.refuse(key, "there is none for this model_type");
  model.mtp.depth = depth;
  keys.pass_over({"ep_size", "qk_head_dim", "head_dim"});
}

bool has_rotary_halves(KeyReader& keys, Family family) {
  const bool halves = !keys.boolean("rope_interleave").value_or(true);
  if (halves && family == Family::kDeepseekV2)
    keys.refuse("rope_interleave", "programs do not read it for this model_type");
  return halves;
}

std::vector<std::string> deepseek_obstacles(const ModelConfig& model, Family family) {
  std::vector<std::string> obstacles;
  const auto require = [&](bool holds, const char* option, const char* reason) {
    if (!holds) obstacles.push_back(fmt::format("{}: {}", option, reason));
  };
  const RouterRule& rule = model.moe.router;
  const bool v3 = family == Family::kDeepseekV3, grouped = rule.groups > 1;
  require(model.hidden_size % model.num_heads == 0 || v3, "model.num_heads",
          "transformers 5 wants it to divide model.hidden_size");
  require(model.swiglu_limit == 0, "model.swiglu_limit", "it has none");
  require(rule.num_experts > 0, "model.moe.num_experts", "it has experts");
  require(rule.score == (v3 ? ScoreFunction::kSigmoid : ScoreFunction::kSoftmax), "model.moe.router.score",
          "it has softmax or sigmoid");
  require(model.moe.capacity_factor == 0, "model.moe.capacity_factor", "nothing is dropped there");
  require(!rule.top_k_before_score, "model.moe.router.top_k_before_score", "it scores first");
  require(model.moe.use_selection_bias == v3, "model.moe.router.selection_bias",
          v3 ? "it has one" : "it has none with softmax");
  require(v3 || model.mtp.depth == 0, "model.mtp.depth", "it has none with softmax");
  require(v3 || !rule.renormalize, "model.moe.router.renormalize", "it does not with softmax");
  require(!grouped || (rule.group_score == GroupScore::kSumOfTop2) == v3, "model.moe.router.group_score",
          v3 ? "it has sum_of_top2" : "it has max with softmax");
  require(!v3 || rule.num_experts / rule.groups >= 2, "model.moe.router.groups",
          "each must have two experts");
  return obstacles;
}

void write_deepseek(const ModelConfig& model, Family family, nlohmann::ordered_json& config) {
  const bool v3 = family == Family::kDeepseekV3;
  const MlaConfig& mla = model.mla;
  const MoeConfig& moe = model.moe;
  const RouterRule& rule = moe.router;
  config["kv_lora_rank"] = mla.kv_lora_rank;
  config["q_lora_rank"] = mla.q_lora_rank > 0 ? nlohmann::ordered_json(mla.q_lora_rank) : nullptr;
  config["qk_nope_head_dim"] = mla.qk_nope_head_dim;
  config["qk_rope_head_dim"] = mla.qk_rope_head_dim;
  config["v_head_dim"] = mla.v_head_dim;
  config["moe_intermediate_size"] = moe.expert_hidden_size;
  config["n_routed_experts"] = rule.num_experts;
  config["n_shared_experts"] = moe.num_shared_experts;
  config["num_experts_per_tok"] = rule.top_k;
  config["first_k_dense_replace"] = moe.first_dense_layers;
  config["moe_layer_freq"] = 1;
  config["n_group"] = rule.groups;
  config["topk_group"] = rule.groups_kept;
  config["topk_method"] = v3 ? "noaux_tc" : rule.groups > 1 ? "group_limited_greedy" : "greedy";
  config["scoring_func"] = v3 ? "sigmoid" : "softmax";
  config["norm_topk_prob"] = rule.renormalize;
  config["routed_scaling_factor"] = rule.scaling_factor;
  config["aux_loss_alpha"] = moe.sequence_balance_loss > 0 ? moe.sequence_balance_loss : moe.balance_loss;
  config["seq_aux"] = moe.sequence_balance_loss > 0 || moe.balance_loss == 0;
  if (!v3) return;
  config["rope_interleave"] = true;
  config["num_nextn_predict_layers"] = model.mtp.depth;
}

}  // namespace jevons
