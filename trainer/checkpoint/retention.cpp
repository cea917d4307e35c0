#include "trainer/checkpoint/retention.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <set>

#include "kernels/core/error.h"
#include "trainer/checkpoint/catalog.h"
#include "trainer/checkpoint/manifest.h"
#include "trainer/io/file.h"

namespace jevons {
namespace {

namespace fs = std::filesystem;

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

void set_validation_loss(TrainState& state, double loss) {
  state.passport[kValidationLoss] = fmt::format("{}", loss);
}

std::optional<double> validation_loss_of(const TrainState& state) {
  const auto found = state.passport.find(kValidationLoss);
  if (found == state.passport.end()) return std::nullopt;
  const double loss = std::strtod(found->second.c_str(), nullptr);
  return std::isfinite(loss) ? std::optional(loss) : std::nullopt;
}

std::vector<std::int64_t> superfluous_steps(const std::vector<SavedStep>& saved, const Retention& retention) {
  if (retention.keep_last <= 0) return {};
  std::set<std::int64_t> wanted;
  const auto n = static_cast<std::int64_t>(saved.size());
  for (std::int64_t i = std::max<std::int64_t>(0, n - retention.keep_last); i < n; ++i) {
    wanted.insert(saved[static_cast<std::size_t>(i)].step);
  }
  std::vector<SavedStep> validated;
  for (const SavedStep& s : saved) {
    if (retention.keep_every > 0 && s.step % retention.keep_every == 0) wanted.insert(s.step);
    if (s.validation_loss) validated.push_back(s);
  }
  std::sort(validated.begin(), validated.end(), [](const SavedStep& a, const SavedStep& b) {
    return a.validation_loss != b.validation_loss ? a.validation_loss < b.validation_loss : a.step > b.step;
  });
  const auto best = std::min(validated.size(), static_cast<std::size_t>(retention.keep_best));
  for (std::size_t i = 0; i < best; ++i) wanted.insert(validated[i].step);
  std::vector<std::int64_t> superfluous;
  for (const SavedStep& s : saved) {
    if (!wanted.contains(s.step)) superfluous.push_back(s.step);
  }
  return superfluous;
}

std::vector<std::int64_t> apply_retention(const std::string& dir, std::int64_t committed,
                                          const Retention& retention) {
  if (retention.keep_last <= 0) return {};
  std::vector<SavedStep> saved;
  std::map<std::int64_t, fs::path> paths;
  for (const auto& [step, path] : steps_in(dir)) {
    if (step > committed) break;
    if (!is_committed(path)) {
      delete_checkpoint(path);
      continue;
    }
    paths[step] = path;
    const bool by_loss = retention.keep_best > 0;
    saved.push_back({step, by_loss ? validation_loss_of(load_manifest(path.string()).state) : std::nullopt});
  }
  ENSURE(!saved.empty() && saved.back().step == committed, "{}: step {} is not committed", dir, committed);
  const std::vector<std::int64_t> superfluous = superfluous_steps(saved, retention);
  for (std::int64_t step : superfluous) delete_checkpoint(paths[step]);
  return superfluous;
}

}  // namespace jevons
