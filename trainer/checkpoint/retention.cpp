#include "trainer/checkpoint/retention.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <set>
#include <utility>

#include "kernels/core/error.h"
#include "trainer/checkpoint/catalog.h"
#include "trainer/checkpoint/manifest.h"
#include "trainer/io/file.h"

namespace jevons {
namespace {

namespace fs = std::filesystem;

constexpr const char* kValidationLoss = "validation_loss";
constexpr const char* kValidationData = "validation_data";

bool is_checkpoint_file(const std::string& name) {
  return name.starts_with("rank-") || name.starts_with(kManifestName);
}

// Files that are not a checkpoint's stay, and with them the directory.
void delete_checkpoint(const fs::path& directory) {
  remove_file(directory / kManifestName);
  sync_directory(directory.string());
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(directory)) {
    if (is_checkpoint_file(entry.path().filename().string())) files.push_back(entry.path());
  }
  for (const fs::path& path : files) remove_file(path);
  std::error_code not_empty;
  fs::remove(directory, not_empty);
}

}  // namespace

void set_validation(TrainState& state, const Validation& validation) {
  if (!std::isfinite(validation.loss)) return;
  state.passport[kValidationLoss] = fmt::format("{}", validation.loss);
  state.passport[kValidationData] = validation.data;
}

std::optional<Validation> validation_of(const TrainState& state) {
  const auto loss = state.passport.find(kValidationLoss), data = state.passport.find(kValidationData);
  if (loss == state.passport.end()) return std::nullopt;
  const Validation validation{std::strtod(loss->second.c_str(), nullptr),
                              data == state.passport.end() ? "" : data->second};
  return std::isfinite(validation.loss) ? std::optional(validation) : std::nullopt;
}

std::vector<std::int64_t> superfluous_steps(const std::vector<SavedStep>& saved, const Retention& retention) {
  if (retention.keep_last <= 0) return {};
  std::set<std::int64_t> wanted;
  std::optional<std::string> data;  // that of the newest loss
  std::vector<std::pair<double, std::int64_t>> losses;
  std::int64_t made_after = 0, kept = 0;
  for (auto s = saved.rbegin(); s != saved.rend(); ++s) {
    if (made_after++ < retention.keep_last) wanted.insert(s->step);
    if (s->left_behind) continue;
    if (kept++ < retention.keep_last) wanted.insert(s->step);
    if (retention.keep_every > 0 && s->step % retention.keep_every == 0) wanted.insert(s->step);
    if (!s->validation) continue;
    if (!data) data = s->validation->data;
    if (s->validation->data == *data) losses.emplace_back(s->validation->loss, s->step);
  }
  // The newer of equals stands before.
  std::stable_sort(losses.begin(), losses.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  const auto best = std::min(losses.size(), static_cast<std::size_t>(retention.keep_best));
  for (std::size_t i = 0; i < best; ++i) wanted.insert(losses[i].second);
  std::vector<std::int64_t> superfluous;
  for (const SavedStep& s : saved) {
    if (!wanted.contains(s.step)) superfluous.push_back(s.step);
  }
  return superfluous;
}

std::vector<std::int64_t> apply_retention(const std::string& dir, std::int64_t committed,
                                          const Retention& retention) {
  if (retention.keep_last <= 0) return {};
  const Catalog catalog(dir);
  const auto& entries = catalog.entries();
  ENSURE(!entries.empty() && entries.back().state.step == committed, "{}: step {} was not made last", dir,
         committed);
  const Lineage& line = entries.back().state.lineage;
  std::vector<SavedStep> saved;
  std::map<std::int64_t, std::string> paths;
  for (const auto& [path, state] : entries) {
    paths[state.step] = path;
    saved.push_back({state.step, validation_of(state), line.branch_at(state.step) != state.lineage.branch()});
  }
  const std::vector<std::int64_t> superfluous = superfluous_steps(saved, retention);
  for (const std::int64_t step : superfluous) delete_checkpoint(paths[step]);
  remove_unfinished(dir, committed);
  return superfluous;
}

void remove_unfinished(const std::string& dir, std::int64_t below) {
  for (const auto& [step, path] : steps_in(dir)) {
    if (step < below && !is_committed(path)) delete_checkpoint(path);
  }
}

}  // namespace jevons
