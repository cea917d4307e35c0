#include "trainer/run/continuation.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "kernels/core/error.h"
#include "trainer/config/config_diff.h"

namespace jevons {
namespace {

bool in_section(const ConfigChange& change, std::string_view section) {
  return change.key.starts_with(section) && change.key[section.size()] == '.';
}

// How the model is computed, not which model it is.
bool keeps_the_model(const ConfigChange& change) {
  constexpr std::array kKeys = {"model.recompute", "model.moe.reduce_at_expert", "model.moe.dispatch_chunks"};
  return std::find(kKeys.begin(), kKeys.end(), change.key) != kKeys.end();
}

// Whether the steps to come may differ for it.
bool concerns_training(const ConfigChange& change) {
  constexpr std::array kSections = {"model", "parallel", "optimizer", "schedule", "train"};
  const bool settings = std::any_of(kSections.begin(), kSections.end(),
                                    [&](const char* section) { return in_section(change, section); });
  return settings || change.key == "numerics" ||
         (in_section(change, "data") && change.key != "data.allow_change");
}

std::string lines_of(const std::vector<ConfigChange>& changes) {
  std::string text;
  for (const ConfigChange& change : changes) text += "\n  " + change.to_string();
  return text;
}

// The passport's entry; "" if it has none.
std::string entry_of(const TrainState& state, const char* key) {
  const auto found = state.passport.find(key);
  return found == state.passport.end() ? "" : found->second;
}

std::string config_of(const TrainState& saved, const std::string& path) {
  const std::string config = entry_of(saved, "config");
  if (config.empty()) fail(ExitCode::kData, "{}: the checkpoint's passport has no config", path);
  return config;
}

std::vector<ConfigChange> changes_since(const TrainState& saved, const std::string& path,
                                        const std::string& config) {
  return diff_run_configs(config_of(saved, path), path + " (passport)", config);
}

void check_model(const std::vector<ConfigChange>& changes, const std::string& path) {
  std::vector<ConfigChange> model;
  for (const ConfigChange& change : changes) {
    if (in_section(change, "model") && !keeps_the_model(change)) model.push_back(change);
  }
  if (model.empty()) return;
  fail(ExitCode::kUsage,
       "{}: the model of this checkpoint is not the configured one (checkpoint -> configuration):{}\n"
       "undo these changes, or start another run: another run_dir, with --init-from for these weights",
       path, lines_of(model));
}

// What kind of state the optimizer keeps of a weight.
void check_optimizer(const std::vector<ConfigChange>& changes, const std::string& path) {
  std::vector<ConfigChange> kinds;
  for (const ConfigChange& change : changes) {
    if (change.key == "optimizer.kind" || change.key == "optimizer.moments") kinds.push_back(change);
  }
  if (kinds.empty()) return;
  fail(ExitCode::kUsage,
       "{}: the optimizer's state in this checkpoint is not what the configured one keeps (checkpoint -> "
       "configuration):{}\n"
       "undo these changes, or start another run: another run_dir, with --init-from for these weights",
       path, lines_of(kinds));
}

void check_data(const std::vector<ConfigChange>& changes, const std::string& before, const std::string& path,
                const LaunchFacts& now) {
  if (now.allow_data_change || before.empty() || before == now.data) return;
  std::vector<ConfigChange> data;
  for (const ConfigChange& change : changes) {
    if (in_section(change, "data")) data.push_back(change);
  }
  fail(ExitCode::kData,
       "{}: the token files are not those that this run was trained on (fingerprint {} -> {}); restore them, "
       "or say that the change is meant with data.allow_change=true{}",
       path, before, now.data, lines_of(data));
}

// Equal ids would mean other text: nothing says that this can be meant.
void check_tokenizer(const TrainState& saved, const std::string& path, const LaunchFacts& now) {
  const std::string before = entry_of(saved, "tokenizer_hash");
  if (before.empty() || now.tokenizer_hash.empty() || before == now.tokenizer_hash) return;
  fail(ExitCode::kData,
       "{}: this run was trained on the tokens of {} (hash {}); the token files are now of another tokenizer "
       "(hash {})",
       path, entry_of(saved, "tokenizer"), before, now.tokenizer_hash);
}

}  // namespace

std::vector<std::string> check_continuation(const TrainState& saved, const std::string& path,
                                            const LaunchFacts& now) {
  const std::vector<ConfigChange> changes = changes_since(saved, path, now.config);
  check_model(changes, path);
  check_optimizer(changes, path);
  check_tokenizer(saved, path, now);
  check_data(changes, entry_of(saved, "data"), path, now);

  std::vector<std::string> notices;
  const std::string layout = entry_of(saved, "layout");
  if (!layout.empty() && layout != now.layout) {
    notices.push_back(fmt::format("layout: {} -> {}", layout, now.layout));
  }
  for (const ConfigChange& change : changes) {
    const bool told_by_layout = in_section(change, "parallel") && change.key != "parallel.zero_stage";
    if (concerns_training(change) && !told_by_layout) notices.push_back(change.to_string());
  }
  return notices;
}

std::vector<std::string> model_differences(const TrainState& saved, const std::string& path,
                                           const std::string& config) {
  std::vector<std::string> differences;
  for (const ConfigChange& change : changes_since(saved, path, config)) {
    if (in_section(change, "model")) differences.push_back(change.to_string());
  }
  return differences;
}

std::vector<std::string> config_differences(const TrainState& a, const std::string& path_a,
                                            const TrainState& b, const std::string& path_b) {
  std::vector<std::string> differences;
  for (const ConfigChange& change : changes_since(a, path_a, config_of(b, path_b))) {
    differences.push_back(change.to_string());
  }
  return differences;
}

}  // namespace jevons
