#include "trainer/config/model_section.h"

#include <algorithm>
#include <cstdint>

namespace jevons {
namespace {

constexpr Choice<QkNorm> kQkNorms[] = {
    {QkNorm::kNone, "none"}, {QkNorm::kHead, "head"}, {QkNorm::kHidden, "hidden"}};
constexpr Choice<Recompute> kRecomputes[] = {
    {Recompute::kNone, "none"}, {Recompute::kSelective, "selective"}, {Recompute::kFull, "full"}};
constexpr Choice<RopeLayout> kRopeLayouts[] = {{RopeLayout::kHalf, "half"},
                                               {RopeLayout::kInterleaved, "interleaved"}};
constexpr Choice<RopeScaling> kRopeScalings[] = {{RopeScaling::kNone, "none"},
                                                 {RopeScaling::kLinear, "linear"},
                                                 {RopeScaling::kDynamic, "dynamic"},
                                                 {RopeScaling::kLlama3, "llama3"},
                                                 {RopeScaling::kYarn, "yarn"}};
constexpr Choice<ScoreFunction> kScores[] = {{ScoreFunction::kSoftmax, "softmax"},
                                             {ScoreFunction::kSigmoid, "sigmoid"},
                                             {ScoreFunction::kSqrtSoftplus, "sqrt_softplus"}};
constexpr Choice<BiasRule> kBiasRules[] = {{BiasRule::kSign, "sign"}, {BiasRule::kQuantile, "quantile"}};
constexpr Choice<GroupScore> kGroupScores[] = {{GroupScore::kMax, "max"},
                                               {GroupScore::kSumOfTop2, "sum_of_top2"}};

void carry_rope(Bridge b, RopeConfig& rope) {
  b("theta", rope.theta);
  b("layout", rope.layout, kRopeLayouts);
  b("scaling", rope.scaling, kRopeScalings);
  b("factor", rope.factor);
  b("original_seq_len", rope.original_seq_len);
  b("beta_fast", rope.beta_fast);
  b("beta_slow", rope.beta_slow);
  b("truncate", rope.truncate);
  b("mscale", rope.mscale);
  b("mscale_all_dim", rope.mscale_all_dim);
  b("attention_factor", rope.attention_factor);
  b("low_freq_factor", rope.low_freq_factor);
  b("high_freq_factor", rope.high_freq_factor);
}

void carry_mla(Bridge b, MlaConfig& mla) {
  b("kv_lora_rank", mla.kv_lora_rank);
  b("q_lora_rank", mla.q_lora_rank);
  b("qk_nope_head_dim", mla.qk_nope_head_dim);
  b("qk_rope_head_dim", mla.qk_rope_head_dim);
  b("v_head_dim", mla.v_head_dim);
}

void carry_router(Bridge b, MoeConfig& moe) {
  RouterRule& rule = moe.router;
  b("score", rule.score, kScores);
  b("top_k_before_score", rule.top_k_before_score);
  b("renormalize", rule.renormalize);
  b("scaling_factor", rule.scaling_factor);
  b("groups", rule.groups);
  b("groups_kept", rule.groups_kept);
  b("group_score", rule.group_score, kGroupScores);
  b("selection_bias", moe.use_selection_bias);
  b("bias_update_rate", moe.bias_update_rate);
  b("bias_rule", moe.bias_rule, kBiasRules);
  b("forced_balance", rule.forced_balance);
}

void carry_moe(Bridge b, MoeConfig& moe) {
  b("num_experts", moe.router.num_experts);
  b("top_k", moe.router.top_k);
  b("expert_hidden_size", moe.expert_hidden_size);
  b("num_shared_experts", moe.num_shared_experts);
  b("first_dense_layers", moe.first_dense_layers);
  b("capacity_factor", moe.capacity_factor);
  b("reduce_at_expert", moe.reduce_at_expert);
  b("dispatch_chunks", moe.dispatch_chunks);
  b("balance_loss", moe.balance_loss);
  b("sequence_balance_loss", moe.sequence_balance_loss);
  b("global_balance_loss", moe.global_balance_loss);
  b("z_loss", moe.z_loss);
  carry_router(b.section("router"), moe);
}

void check_mla(const ModelConfig& m, Rules& rules) {
  const MlaConfig& mla = m.mla;
  const std::string rank = "model.mla.kv_lora_rank";
  const auto part = [&](const char* option, std::int64_t value, bool needed) {
    const std::string key = std::string("model.mla.") + option;
    rules.require(
        {key, rank}, [&] { return mla.enabled() || value == 0; },
        "{} says nothing without model.mla.kv_lora_rank", key);
    rules.require(
        {key, rank}, [&] { return !mla.enabled() || !needed || value > 0; },
        "{} is missing: model.mla.kv_lora_rank makes keys and values of a latent", key);
  };
  part("q_lora_rank", mla.q_lora_rank, false);
  part("qk_nope_head_dim", mla.qk_nope_head_dim, true);
  part("qk_rope_head_dim", mla.qk_rope_head_dim, true);
  part("v_head_dim", mla.v_head_dim, true);
  if (!mla.enabled()) return;
  rules.require(
      {"model.mla.qk_rope_head_dim"}, [&] { return mla.qk_rope_head_dim % 2 == 0; },
      "model.mla.qk_rope_head_dim = {} is odd; rotary positions turn pairs", mla.qk_rope_head_dim);
  rules.require(
      {"model.head_dim", "model.mla"},
      [&] { return m.head_dim == mla.qk_nope_head_dim + mla.qk_rope_head_dim; },
      "model.head_dim = {} is not model.mla.qk_nope_head_dim + qk_rope_head_dim = {}; leave it out",
      m.head_dim, mla.qk_nope_head_dim + mla.qk_rope_head_dim);
  rules.require(
      {"model.num_kv_heads", "model.num_heads", rank}, [&] { return m.num_kv_heads == m.num_heads; },
      "model.num_kv_heads = {} with model.mla: each of the {} heads has its own key; leave it out",
      m.num_kv_heads, m.num_heads);
  rules.require(
      {"model.qk_norm", rank}, [&] { return m.qk_norm == QkNorm::kNone; },
      "model.qk_norm is not for model.mla, whose norms are those of the latents");
}

void carry_mtp(Bridge b, MtpConfig& mtp) {
  b("depth", mtp.depth);
  b("loss_weight", mtp.loss_weight);
}

// The last depth predicts depth + 1 rows further than the model.
void check_mtp(const ModelConfig& m, Rules& rules) {
  rules.require(
      {"model.mtp.depth", "model.seq_len"}, [&] { return m.mtp.depth < m.seq_len; },
      "model.mtp.depth = {} leaves no target in a sequence of model.seq_len = {}", m.mtp.depth, m.seq_len);
}

void check_attention(const ModelConfig& m, Rules& rules) {
  check_mla(m, rules);
  if (m.mla.enabled()) return;
  rules.require(
      {"model.num_heads", "model.hidden_size", "model.head_dim"}, [&] { return m.head_dim > 0; },
      "model.hidden_size = {} is not divisible by model.num_heads = {}; give model.head_dim or change one",
      m.hidden_size, m.num_heads);
  rules.require(
      {"model.head_dim"}, [&] { return m.head_dim % 2 == 0; },
      "model.head_dim = {} is odd; rotary positions turn pairs", m.head_dim);
  rules.require(
      {"model.num_kv_heads", "model.num_heads"}, [&] { return m.num_heads % m.num_kv_heads == 0; },
      "model.num_heads = {} is not divisible by model.num_kv_heads = {}", m.num_heads, m.num_kv_heads);
}

const std::string kScaling = "model.rope.scaling", kOriginal = "model.rope.original_seq_len";

// An option that only some ways of scaling read keeps its default under the others. Where somebody says that
// there is no scaling, whatever a file that he includes has is off.
void check_rope_options(const RopeConfig& r, Rules& rules) {
  if (r.scaling == RopeScaling::kNone && rules.was_given(kScaling)) return;
  const RopeConfig plain;
  const auto belongs = [&](const char* option, bool is_default, std::vector<RopeScaling> to) {
    std::string names;
    for (const Choice<RopeScaling>& each : kRopeScalings) {
      if (std::find(to.begin(), to.end(), each.value) == to.end()) continue;
      names += (names.empty() ? "" : ", ") + std::string(each.name);
    }
    const std::string key = std::string("model.rope.") + option;
    rules.require(
        {key, kScaling}, [&] { return is_default || std::find(to.begin(), to.end(), r.scaling) != to.end(); },
        "{} says nothing here: it is for model.rope.scaling = {}", key, names);
  };
  using enum RopeScaling;
  belongs("factor", r.factor == plain.factor, {kLinear, kDynamic, kLlama3, kYarn});
  belongs("original_seq_len", r.original_seq_len == 0, {kDynamic, kLlama3, kYarn});
  belongs("beta_fast", r.beta_fast == plain.beta_fast, {kYarn});
  belongs("beta_slow", r.beta_slow == plain.beta_slow, {kYarn});
  belongs("truncate", r.truncate == plain.truncate, {kYarn});
  belongs("mscale", r.mscale == 0, {kYarn});
  belongs("mscale_all_dim", r.mscale_all_dim == 0, {kYarn});
  belongs("attention_factor", r.attention_factor == 0, {kYarn});
  belongs("low_freq_factor", r.low_freq_factor == plain.low_freq_factor, {kLlama3});
  belongs("high_freq_factor", r.high_freq_factor == plain.high_freq_factor, {kLlama3});
}

void check_rope(const ModelConfig& m, Rules& rules) {
  const RopeConfig& r = m.rope;
  check_rope_options(r, rules);
  const bool wants_original = r.scaling != RopeScaling::kNone && r.scaling != RopeScaling::kLinear;
  rules.require(
      {kOriginal, kScaling}, [&] { return !wants_original || r.original_seq_len > 0; },
      "model.rope.original_seq_len is missing: model.rope.scaling needs the context of pretraining");
  rules.require(
      {kScaling, kOriginal, "model.seq_len"},
      [&] { return r.scaling != RopeScaling::kDynamic || m.seq_len <= r.original_seq_len; },
      "model.rope.scaling = dynamic turns every sequence longer than model.rope.original_seq_len = {} in its "
      "own way, for which model.seq_len = {} leaves room; use linear or yarn, or a shorter model.seq_len",
      r.original_seq_len, m.seq_len);
  rules.require(
      {"model.rope.low_freq_factor", "model.rope.high_freq_factor"},
      [&] { return r.low_freq_factor < r.high_freq_factor; },
      "model.rope.low_freq_factor = {} is not below model.rope.high_freq_factor = {}", r.low_freq_factor,
      r.high_freq_factor);
  rules.require(
      {"model.rope.beta_slow", "model.rope.beta_fast"}, [&] { return r.beta_slow <= r.beta_fast; },
      "model.rope.beta_slow = {} is above model.rope.beta_fast = {}", r.beta_slow, r.beta_fast);
  rules.require(
      {"model.rope.theta", kScaling}, [&] { return r.scaling != RopeScaling::kYarn || r.theta > 1; },
      "model.rope.theta = {} gives yarn no slower pairs; it must be above 1", r.theta);
}

void check_groups(const RouterRule& r, Rules& rules) {
  const std::string groups = "model.moe.router.groups", experts = "model.moe.num_experts";
  rules.require(
      {groups, experts}, [&] { return r.num_experts % r.groups == 0; },
      "model.moe.num_experts = {} is not divisible by model.moe.router.groups = {}", r.num_experts, r.groups);
  const std::int64_t group_size = r.num_experts / r.groups;
  rules.require(
      {"model.moe.router.groups_kept", groups, experts}, [&] { return r.groups_kept <= r.groups; },
      "model.moe.router.groups_kept = {} is more than model.moe.router.groups = {}", r.groups_kept, r.groups);
  rules.require(
      {"model.moe.top_k", "model.moe.router.groups_kept", groups, experts},
      [&] { return r.top_k <= r.groups_kept * group_size; },
      "model.moe.top_k = {} experts cannot be chosen from {} groups of {}", r.top_k, r.groups_kept,
      group_size);
  rules.require(
      {"model.moe.router.group_score", groups, experts},
      [&] { return r.groups == 1 || group_size > 1 || r.group_score == GroupScore::kMax; },
      "model.moe.router.group_score = sum_of_top2 needs groups of at least 2 experts, they have {}",
      group_size);
}

// The thresholds that quantile balancing measures are those of the choice, and lie within 1 of the biases.
void check_bias_rule(const MoeConfig& moe, Rules& rules) {
  if (moe.bias_rule != BiasRule::kQuantile) return;
  const RouterRule& r = moe.router;
  const std::string key = "model.moe.router.bias_rule";
  const auto needs = [&](const char* other, bool holds, const char* reason) {
    rules.require(
        {key, other}, [&] { return holds; }, "model.moe.router.bias_rule = quantile {}", reason);
  };
  needs("model.moe.router.selection_bias", moe.use_selection_bias, "needs selection_bias = true");
  needs("model.moe.top_k", r.top_k < r.num_experts, "needs fewer experts chosen than there are");
  needs("model.moe.router.groups_kept", r.groups_kept == r.groups, "knows no groups; keep all of them");
  needs("model.moe.router.top_k_before_score", !r.top_k_before_score,
        "measures scores; use top_k_before_score = false");
  needs("model.moe.router.score", r.score != ScoreFunction::kSqrtSoftplus,
        "needs scores between 0 and 1: softmax or sigmoid");
}

void check_experts(const ModelConfig& m, Rules& rules) {
  const MoeConfig& moe = m.moe;
  const std::int64_t experts = moe.router.num_experts;
  const bool is_dense = experts == 0;
  rules.require(
      {"model.moe.first_dense_layers", "model.num_layers", "model.moe.num_experts"},
      [&] { return is_dense || moe.first_dense_layers < m.num_layers; },
      "model.moe.first_dense_layers = {} leaves none of {} layers for the experts", moe.first_dense_layers,
      m.num_layers);
  rules.require(
      {"model.ffn_hidden_size", "model.moe.num_experts", "model.moe.first_dense_layers"},
      [&] { return m.ffn_hidden_size > 0 || (!is_dense && moe.first_dense_layers == 0); },
      "model.ffn_hidden_size is missing: {}",
      is_dense ? "without model.moe.num_experts every layer is dense"
               : "model.moe.first_dense_layers are dense");
  if (is_dense) return;
  rules.require(
      {"model.moe.num_experts", "model.moe.expert_hidden_size"}, [&] { return moe.expert_hidden_size > 0; },
      "model.moe.expert_hidden_size is missing: there are {} experts", experts);
  rules.require(
      {"model.moe.top_k", "model.moe.num_experts"}, [&] { return moe.router.top_k <= experts; },
      "model.moe.top_k = {} is more than model.moe.num_experts = {}", moe.router.top_k, experts);
  check_groups(moe.router, rules);
  check_bias_rule(moe, rules);
}

// Bounds within which no count of tokens, elements or bytes overflows 64 bits, whatever the rest is.
void check_sizes(const ModelConfig& m, Rules& rules) {
  constexpr std::int64_t kMostWidth = std::int64_t{1} << 20;
  constexpr double kMostWeights = 1e15;
  rules.require(
      {"model.num_heads", "model.head_dim"}, [&] { return m.num_heads * m.head_dim <= kMostWidth; },
      "model.num_heads * model.head_dim = {} * {} is too wide; at most {}", m.num_heads, m.head_dim,
      kMostWidth);
  rules.require(
      {"model.num_heads", "model.mla.v_head_dim"},
      [&] { return m.num_heads * m.mla.v_head_dim <= kMostWidth; },
      "model.num_heads * model.mla.v_head_dim = {} * {} is too wide; at most {}", m.num_heads,
      m.mla.v_head_dim, kMostWidth);
  const auto width = static_cast<double>(m.hidden_size);
  const auto heads = static_cast<double>(m.num_heads + m.num_kv_heads);
  const double attention = width * static_cast<double>(2 * m.head_dim) * heads +
                           (width + heads * static_cast<double>(m.head_dim + m.mla.v_head_dim)) *
                               static_cast<double>(m.mla.q_lora_rank + m.mla.kv_lora_rank);
  const double experts = static_cast<double>(m.moe.expert_hidden_size) *
                         static_cast<double>(m.moe.router.num_experts + m.moe.num_shared_experts);
  const double layer = attention + 3 * width * (static_cast<double>(m.ffn_hidden_size) + experts);
  const double mtp = static_cast<double>(m.mtp.depth) * (layer + 2 * width * width);
  const double weights =
      2 * width * static_cast<double>(m.vocab_size) + layer * static_cast<double>(m.num_layers) + mtp;
  rules.require(
      {"model.num_layers", "model"}, [&] { return weights <= kMostWeights; },
      "the model would have about {:.1e} weights; at most {:.0e}", weights, kMostWeights);
}

}  // namespace

void carry(Bridge b, ModelConfig& model) {
  b("vocab_size", model.vocab_size);
  b("num_layers", model.num_layers);
  b("hidden_size", model.hidden_size);
  b("ffn_hidden_size", model.ffn_hidden_size);
  b("num_heads", model.num_heads);
  b("num_kv_heads", model.num_kv_heads);
  b("head_dim", model.head_dim);
  b("seq_len", model.seq_len);
  b("norm_eps", model.norm_eps);
  b("qk_norm", model.qk_norm, kQkNorms);
  b("tie_embeddings", model.tie_embeddings);
  b("init_std", model.init_std);
  b("swiglu_limit", model.swiglu_limit);
  b("scale_output_init", model.scale_output_init);
  b("recompute", model.recompute, kRecomputes);
  carry_rope(b.section("rope"), model.rope);
  carry_mla(b.section("mla"), model.mla);
  carry_moe(b.section("moe"), model.moe);
  carry_mtp(b.section("mtp"), model.mtp);
}

void resolve_defaults(ModelConfig& model) {
  if (model.num_kv_heads == 0) model.num_kv_heads = model.num_heads;
  if (model.head_dim == 0 && model.mla.enabled()) {
    model.head_dim = model.mla.qk_nope_head_dim + model.mla.qk_rope_head_dim;
  }
  if (model.head_dim == 0 && model.num_heads > 0 && model.hidden_size % model.num_heads == 0) {
    model.head_dim = model.hidden_size / model.num_heads;
  }
}

void check(const ModelConfig& model, Rules& rules) {
  check_attention(model, rules);
  check_rope(model, rules);
  check_experts(model, rules);
  check_mtp(model, rules);
  check_sizes(model, rules);
}

}  // namespace jevons
