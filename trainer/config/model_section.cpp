#include "trainer/config/model_section.h"

#include <cstdint>

namespace jevons {
namespace {

constexpr Choice<QkNorm> kQkNorms[] = {
    {QkNorm::kNone, "none"}, {QkNorm::kHead, "head"}, {QkNorm::kHidden, "hidden"}};
constexpr Choice<Recompute> kRecomputes[] = {
    {Recompute::kNone, "none"}, {Recompute::kSelective, "selective"}, {Recompute::kFull, "full"}};
constexpr Choice<ScoreFunction> kScores[] = {{ScoreFunction::kSoftmax, "softmax"},
                                             {ScoreFunction::kSigmoid, "sigmoid"}};
constexpr Choice<GroupScore> kGroupScores[] = {{GroupScore::kMax, "max"},
                                               {GroupScore::kSumOfTop2, "sum_of_top2"}};

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

void check_attention(const ModelConfig& m, Rules& rules) {
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
}

// Bounds within which no count of tokens, elements or bytes overflows 64 bits, whatever the rest is.
void check_sizes(const ModelConfig& m, Rules& rules) {
  constexpr std::int64_t kMostWidth = std::int64_t{1} << 20;
  constexpr double kMostWeights = 1e15;
  rules.require(
      {"model.num_heads", "model.head_dim"}, [&] { return m.num_heads * m.head_dim <= kMostWidth; },
      "model.num_heads * model.head_dim = {} * {} is too wide; at most {}", m.num_heads, m.head_dim,
      kMostWidth);
  const auto width = static_cast<double>(m.hidden_size);
  const double attention =
      width * static_cast<double>(2 * m.head_dim) * static_cast<double>(m.num_heads + m.num_kv_heads);
  const double experts = static_cast<double>(m.moe.expert_hidden_size) *
                         static_cast<double>(m.moe.router.num_experts + m.moe.num_shared_experts);
  const double layer = attention + 3 * width * (static_cast<double>(m.ffn_hidden_size) + experts);
  const double weights =
      2 * width * static_cast<double>(m.vocab_size) + layer * static_cast<double>(m.num_layers);
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
  b("rope_theta", model.rope_theta);
  b("norm_eps", model.norm_eps);
  b("qk_norm", model.qk_norm, kQkNorms);
  b("tie_embeddings", model.tie_embeddings);
  b("init_std", model.init_std);
  b("recompute", model.recompute, kRecomputes);
  carry_moe(b.section("moe"), model.moe);
}

void resolve_defaults(ModelConfig& model) {
  if (model.num_kv_heads == 0) model.num_kv_heads = model.num_heads;
  if (model.head_dim == 0 && model.num_heads > 0 && model.hidden_size % model.num_heads == 0) {
    model.head_dim = model.hidden_size / model.num_heads;
  }
}

void check(const ModelConfig& model, Rules& rules) {
  check_attention(model, rules);
  check_experts(model, rules);
  check_sizes(model, rules);
}

}  // namespace jevons
