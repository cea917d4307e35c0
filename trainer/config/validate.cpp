#include "trainer/config/validate.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <sstream>

#include "run.pb.h"
#include "trainer/config/dates.h"
#include "trainer/config/option.h"
#include "trainer/config/scalars.h"

namespace jevons {
namespace {

class Checker {
 public:
  Checker(const Place& source, Findings& findings) : source_(source), findings_(findings) {}

  // Reports at the place of `key` unless `holds`.
  template <class... Args>
  void rule(bool holds, const std::string& key, fmt::format_string<Args...> format, Args&&... args) {
    if (!holds)
      findings_.add(findings_.place_of(key, source_), fmt::format(format, std::forward<Args>(args)...));
  }

 private:
  const Place& source_;
  Findings& findings_;
};

void check_attention(const schema::Model& model, Checker& check) {
  check.rule(
      model.head_dim() > 0, "model.num_heads",
      "model.hidden_size = {} is not divisible by model.num_heads = {}; give model.head_dim or change one",
      model.hidden_size(), model.num_heads());
  check.rule(model.head_dim() % 2 == 0, "model.head_dim",
             "model.head_dim = {} is odd; rotary positions turn pairs", model.head_dim());
  check.rule(model.num_heads() % model.num_kv_heads() == 0, "model.num_kv_heads",
             "model.num_heads = {} is not divisible by model.num_kv_heads = {}", model.num_heads(),
             model.num_kv_heads());
}

void check_groups(const schema::Moe& moe, Checker& check) {
  const schema::Router& router = moe.router();
  if (moe.num_experts() % router.groups() != 0) {
    return check.rule(false, "model.moe.router.groups",
                      "model.moe.num_experts = {} is not divisible by model.moe.router.groups = {}",
                      moe.num_experts(), router.groups());
  }
  const std::int64_t group_size = moe.num_experts() / router.groups();
  check.rule(router.groups_kept() <= router.groups(), "model.moe.router.groups_kept",
             "model.moe.router.groups_kept = {} is more than model.moe.router.groups = {}",
             router.groups_kept(), router.groups());
  check.rule(moe.top_k() <= std::min(router.groups_kept(), router.groups()) * group_size, "model.moe.top_k",
             "model.moe.top_k = {} experts cannot be chosen from {} groups of {}", moe.top_k(),
             router.groups_kept(), group_size);
  check.rule(router.groups() == 1 || group_size > 1 || router.group_score() == schema::GROUP_SCORE_MAX,
             "model.moe.router.group_score",
             "model.moe.router.group_score = sum_of_top2 needs groups of at least 2 experts, they have {}",
             group_size);
}

void check_experts(const schema::Model& model, Checker& check) {
  const schema::Moe& moe = model.moe();
  const bool is_dense = moe.num_experts() == 0;
  check.rule(is_dense || moe.first_dense_layers() < model.num_layers(), "model.moe.first_dense_layers",
             "model.moe.first_dense_layers = {} leaves none of {} layers for the experts",
             moe.first_dense_layers(), model.num_layers());
  check.rule(model.ffn_hidden_size() > 0 || (!is_dense && moe.first_dense_layers() == 0),
             "model.ffn_hidden_size", "model.ffn_hidden_size is missing: {}",
             is_dense ? "without model.moe.num_experts every layer is dense"
                      : "model.moe.first_dense_layers are dense");
  if (is_dense) return;
  check.rule(moe.expert_hidden_size() > 0, "model.moe.num_experts",
             "model.moe.expert_hidden_size is missing: there are {} experts", moe.num_experts());
  if (moe.top_k() > moe.num_experts()) {
    return check.rule(false, "model.moe.top_k",
                      "model.moe.top_k = {} is more than model.moe.num_experts = {}", moe.top_k(),
                      moe.num_experts());
  }
  check_groups(moe, check);
}

// Bounds within which no count of tokens, elements or bytes overflows 64 bits, whatever the rest is.
void check_sizes(const schema::Model& model, const schema::Train& train, Checker& check) {
  constexpr std::int64_t kMostTokens = std::int64_t{1} << 28, kMostWidth = std::int64_t{1} << 20;
  constexpr double kMostWeights = 1e15;
  check.rule(train.micro_batch_size() <= kMostTokens / model.seq_len(), "train.micro_batch_size",
             "train.micro_batch_size * model.seq_len = {} * {} tokens are too many for a pass; at most {}",
             train.micro_batch_size(), model.seq_len(), kMostTokens);
  check.rule(model.num_heads() * model.head_dim() <= kMostWidth, "model.num_heads",
             "model.num_heads * model.head_dim = {} * {} is too wide; at most {}", model.num_heads(),
             model.head_dim(), kMostWidth);
  const schema::Moe& moe = model.moe();
  const auto width = static_cast<double>(model.hidden_size());
  const double attention = width * static_cast<double>(2 * model.head_dim()) *
                           static_cast<double>(model.num_heads() + model.num_kv_heads());
  const double experts = static_cast<double>(moe.expert_hidden_size()) *
                         static_cast<double>(moe.num_experts() + moe.num_shared_experts());
  const double layer = attention + 3 * width * (static_cast<double>(model.ffn_hidden_size()) + experts);
  const double weights =
      2 * width * static_cast<double>(model.vocab_size()) + layer * static_cast<double>(model.num_layers());
  check.rule(weights <= kMostWeights, "model.num_layers",
             "the model would have about {:.1e} weights; at most {:.0e}", weights, kMostWeights);
}

void check_batches(const schema::Train& train, Checker& check) {
  check.rule(train.global_batch_size() % train.micro_batch_size() == 0, "train.micro_batch_size",
             "train.global_batch_size = {} is not divisible by train.micro_batch_size = {}",
             train.global_batch_size(), train.micro_batch_size());
  const bool has_start = train.batch_ramp_start() > 0, has_length = train.batch_ramp_samples() > 0;
  check.rule(has_start == has_length, has_start ? "train.batch_ramp_start" : "train.batch_ramp_samples",
             "train.batch_ramp_start and train.batch_ramp_samples belong together");
  check.rule(train.batch_ramp_start() <= train.global_batch_size(), "train.batch_ramp_start",
             "train.batch_ramp_start = {} is more than train.global_batch_size = {}",
             train.batch_ramp_start(), train.global_batch_size());
  check.rule(train.batch_ramp_start() % train.micro_batch_size() == 0, "train.batch_ramp_start",
             "train.batch_ramp_start = {} is not divisible by train.micro_batch_size = {}",
             train.batch_ramp_start(), train.micro_batch_size());
}

void check_retention(const schema::Checkpoint& checkpoint, Checker& check) {
  const auto needs_last = [&](std::int64_t value, const char* key) {
    check.rule(value == 0 || checkpoint.keep_last() > 0, key,
               "{} = {} has no effect: without checkpoint.keep_last every checkpoint stays", key, value);
  };
  needs_last(checkpoint.keep_every(), "checkpoint.keep_every");
  needs_last(checkpoint.keep_best(), "checkpoint.keep_best");
}

void check_interval(const schema::Checkpoint& checkpoint, Checker& check) {
  check.rule(checkpoint.auto_min_minutes() <= checkpoint.auto_max_minutes(), "checkpoint.auto_min_minutes",
             "checkpoint.auto_min_minutes = {} is more than checkpoint.auto_max_minutes = {}",
             checkpoint.auto_min_minutes(), checkpoint.auto_max_minutes());
}

void check_budget(const schema::Budget& budget, Checker& check) {
  check.rule(budget.date().empty() || parse_moment(budget.date()), "budget.date",
             "budget.date = \"{}\" is not a moment as 2026-05-01 or 2026-05-01T18:30", budget.date());
  check.rule(parse_shares(budget.warn_at()).has_value(), "budget.warn_at",
             "budget.warn_at = \"{}\": expected shares between 0 and 1 with spaces between them",
             budget.warn_at());
}

void check_price(const schema::Cost& cost, Checker& check) {
  const double price = cost.price_per_device_hour();
  check.rule(price >= 0 || price == -1, "cost.price_per_device_hour",
             "cost.price_per_device_hour = {} is not a price; use one of at least 0, or -1 = unknown", price);
}

void check_sources(const schema::Data& data, Checker& check) {
  const auto paths = [&](const auto& list, const char* name) {
    for (int i = 0; i < list.size(); ++i) {
      const std::string key = fmt::format("data.{}.{}.path", name, i);
      check.rule(!list[i].path().empty(), key, "{} is empty", key);
    }
  };
  // A number of tokens and a number that somebody chose have no common unit.
  const auto weights = [&](const auto& list, const char* name) {
    const auto by_size = [](const schema::DataSource& source) { return source.weight() == kWordValue; };
    const auto sized = std::count_if(list.begin(), list.end(), by_size);
    for (int i = 0; i < list.size() && sized > 0; ++i) {
      const std::string key = fmt::format("data.{}.{}.weight", name, i);
      check.rule(by_size(list[i]), key,
                 "{} = {}, but other sources of data.{} have size; give size to all or to none", key,
                 list[i].weight(), name);
    }
  };
  paths(data.train(), "train");
  paths(data.validation(), "validation");
  weights(data.train(), "train");
  weights(data.validation(), "validation");
}

// What stands in the way of the same bits on every layout (docs/numerics.md).
void check_numerics(const schema::Run& run, Checker& check) {
  if (run.numerics() != schema::NUMERICS_LAYOUT_INVARIANT) return;
  const auto needs = [&](bool holds, const char* key, const char* reason) {
    check.rule(holds, key, "numerics = layout_invariant cannot be had with {}: {}", key, reason);
  };
  const schema::Parallel& parallel = run.parallel();
  needs(parallel.tp() == 1, "parallel.tp", "sums inside a layer would be cut into tp parts; use 1");
  needs(parallel.pp() == 1, "parallel.pp", "use 1");
  needs(parallel.cp() == 1, "parallel.cp", "sums over a sequence would be cut into cp parts; use 1");
  const schema::Moe& moe = run.model().moe();
  needs(moe.global_balance_loss() == 0, "model.moe.global_balance_loss",
        "it sees the part of the batch that is done so far; use sequence_balance_loss");
  needs(!moe.reduce_at_expert(), "model.moe.reduce_at_expert",
        "sums of a token's experts would be grouped by worker; use false");
  needs(run.device() != schema::DEVICE_CUDA, "device",
        "the GPU's products are not known to keep rows apart; use cpu");
}

bool is_directory_name(const std::string& name) {
  const auto good = [](unsigned char c) { return std::isalnum(c) || c == '-' || c == '_' || c == '.'; };
  return !name.empty() && name.front() != '.' && std::all_of(name.begin(), name.end(), good);
}

}  // namespace

std::optional<std::vector<double>> parse_shares(const std::string& text) {
  std::vector<double> shares;
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    const Parsed<double> share = parse_number(word);
    if (!share.problem.empty() || share.value <= 0 || share.value > 1) return std::nullopt;
    shares.push_back(share.value);
  }
  return shares;
}

void resolve_defaults(schema::Run& run, const std::string& source) {
  schema::Model& model = *run.mutable_model();
  if (model.num_kv_heads() == 0) model.set_num_kv_heads(model.num_heads());
  if (model.head_dim() == 0 && model.hidden_size() % model.num_heads() == 0) {
    model.set_head_dim(model.hidden_size() / model.num_heads());
  }
  if (run.name().empty()) run.set_name(std::filesystem::path(source).stem().string());
  if (run.run_dir().empty()) run.set_run_dir("runs/" + run.name());
  run.clear_include();
}

void check_options_together(const schema::Run& run, const Place& source, Findings& findings) {
  Checker check(source, findings);
  check.rule(is_directory_name(run.name()), "name",
             "name = \"{}\" cannot name a directory; use letters, digits, - _ and .", run.name());
  check_attention(run.model(), check);
  check_experts(run.model(), check);
  check_batches(run.train(), check);
  check_sizes(run.model(), run.train(), check);
  check_price(run.cost(), check);
  check_retention(run.checkpoint(), check);
  check_interval(run.checkpoint(), check);
  check_sources(run.data(), check);
  check_budget(run.budget(), check);
  check_numerics(run, check);
  check.rule(
      run.schedule().kind() != schema::SCHEDULE_KIND_WARMUP_STABLE_DECAY || run.schedule().decay_steps() > 0,
      "schedule.kind", "schedule.kind = warmup_stable_decay needs schedule.decay_steps");
}

}  // namespace jevons
