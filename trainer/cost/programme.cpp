#include "trainer/cost/programme.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "kernels/core/error.h"

namespace jevons {
namespace {

namespace fs = std::filesystem;

constexpr const char* kLedgerName = "ledger.jsonl";

}  // namespace

std::optional<double> Programme::ratio_to_final(const std::string& project) const {
  const auto final_runs = by_purpose.find({project, kFinalPurpose});
  const auto all = by_project.find(project);
  if (final_runs == by_purpose.end() || all == by_project.end()) return std::nullopt;
  if (final_runs->second.device_seconds <= 0) return std::nullopt;
  return all->second.device_seconds / final_runs->second.device_seconds;
}

std::vector<std::string> ledgers_below(const std::string& path) {
  if (fs::is_regular_file(path)) return {path};
  std::vector<std::string> found;
  if (!fs::exists(path)) return found;
  std::error_code error;
  fs::recursive_directory_iterator walk(path, fs::directory_options::skip_permission_denied, error);
  for (; !error && walk != fs::recursive_directory_iterator(); walk.increment(error)) {
    // Checkpoints hold none and are many files.
    if (walk->path().filename() == "checkpoints") walk.disable_recursion_pending();
    if (walk->path().filename() == kLedgerName && walk->is_regular_file())
      found.push_back(walk->path().string());
  }
  if (error) fail(ExitCode::kUsage, "{}: {}", path, error.message());
  std::sort(found.begin(), found.end());
  return found;
}

std::vector<std::string> find_ledgers(const std::vector<std::string>& paths) {
  std::map<fs::path, std::string> by_real_path;
  for (const std::string& path : paths) {
    const std::vector<std::string> found = ledgers_below(path);
    if (!fs::exists(path)) fail(ExitCode::kUsage, "{}: No such file or directory", path);
    if (found.empty()) fail(ExitCode::kUsage, "{}: no {} here", path, kLedgerName);
    for (const std::string& ledger : found) by_real_path.try_emplace(fs::canonical(ledger), ledger);
  }
  std::vector<std::string> ledgers;
  for (const auto& [real, shown] : by_real_path) ledgers.push_back(shown);
  std::sort(ledgers.begin(), ledgers.end());
  return ledgers;
}

std::vector<std::string> ledgers_of(const Programme& programme) {
  std::vector<std::string> paths;
  for (const RunAccount& run : programme.runs) paths.push_back(run.path);
  return paths;
}

Programme account_programme(const std::vector<std::string>& ledgers, const std::string& project) {
  Programme programme;
  std::set<std::string> seen;
  for (const std::string& path : ledgers) {
    RunAccount run = account_of(read_ledger(path));
    if (run.launches.empty()) {
      programme.unusable.push_back(fmt::format("{}: no launch of it can be counted: {}", path,
                                               run.problems.empty() ? "it is empty" : run.problems.front()));
      continue;
    }
    std::vector<LaunchAccount> counted;
    for (LaunchAccount& account : run.launches) {
      if (account.launch.has_record) programme.projects.insert(account.launch.info.project);
      if (!seen.insert(account.launch.id).second) {
        programme.problems.push_back(
            fmt::format("{}: launch {} stands in another ledger too; counted once", path, account.launch.id));
      } else if (project.empty() || account.launch.info.project == project) {
        counted.push_back(std::move(account));
      } else if (!account.launch.has_record) {
        programme.problems.push_back(
            fmt::format("{}: launch {}: its launch record is lost, and with it its project; not counted",
                        path, account.launch.id));
      }
    }
    if (counted.empty()) continue;
    run.launches = std::move(counted);
    run.total = {};
    for (const LaunchAccount& account : run.launches) {
      const LaunchInfo& info = account.launch.info;
      run.total.add(account);
      programme.by_purpose[{info.project, info.purpose}].add(account);
      programme.by_project[info.project].add(account);
      programme.total.add(account);
    }
    programme.runs.push_back(std::move(run));
  }
  return programme;
}

void require_launches(const Programme& programme, const std::string& project) {
  if (!programme.runs.empty()) return;
  if (!programme.unusable.empty() && programme.projects.empty()) {
    fail(ExitCode::kData, "{}", fmt::join(programme.unusable, "\n"));
  }
  fail(ExitCode::kUsage, "no launch of project '{}' here; there are: {}", project,
       fmt::join(programme.projects, ", "));
}

}  // namespace jevons
