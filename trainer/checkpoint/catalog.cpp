#include "trainer/checkpoint/catalog.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <tuple>

#include "kernels/core/error.h"
#include "kernels/core/log.h"
#include "trainer/checkpoint/manifest.h"
#include "trainer/io/file.h"

namespace jevons {
namespace {

namespace fs = std::filesystem;

constexpr const char* kReturnName = "return.json";

// 100 for "step-00000100", nothing for other names.
std::optional<std::int64_t> step_of(const std::string& name) {
  constexpr std::string_view kPrefix = "step-";
  if (!name.starts_with(kPrefix)) return std::nullopt;
  std::int64_t step = 0;
  const char* end = name.data() + name.size();
  const auto [stopped, error] = std::from_chars(name.data() + kPrefix.size(), end, step);
  if (error != std::errc() || stopped != end || step < 0) return std::nullopt;
  return step;
}

bool is_same(const fs::path& a, const fs::path& b) {
  std::error_code ignored;
  return fs::equivalent(a, b, ignored);
}

}  // namespace

bool is_committed(const fs::path& directory) {
  std::error_code ignored;
  return fs::is_regular_file(directory / kManifestName, ignored);
}

std::map<std::int64_t, fs::path> steps_in(const std::string& dir) {
  std::error_code ignored;
  std::map<std::int64_t, fs::path> by_step;
  for (const auto& entry : fs::directory_iterator(dir, ignored)) {
    const std::optional<std::int64_t> step = step_of(entry.path().filename().string());
    if (step) by_step[*step] = entry.path();
  }
  return by_step;
}

Catalog::Catalog(const std::string& dir) : dir_(dir) {
  for (const auto& [step, path] : steps_in(dir)) {
    if (!is_committed(path)) {
      unfinished_.push_back(path);
      continue;
    }
    try {
      entries_.push_back({path.string(), load_state(path.string())});
    } catch (const Error& e) {
      unreadable_.push_back({step, e.what()});
    }
  }
  std::sort(entries_.begin(), entries_.end(), [](const Entry& a, const Entry& b) {
    return std::tie(a.state.sequence, a.state.step) < std::tie(b.state.sequence, b.state.step);
  });
  read_return();
}

void Catalog::read_return() {
  const std::string path = (dir_ / kReturnName).string();
  std::error_code ignored;
  if (!fs::exists(path, ignored)) return;
  try {
    const auto json = nlohmann::json::parse(read_text_file(path));
    return_ = {json.at("sequence").get<std::uint64_t>(), json.at("checkpoint").get<std::string>()};
  } catch (const nlohmann::json::exception& e) {
    fail(ExitCode::kData,
         "{}: damaged: {}. It says which checkpoint the run went back to; name that one with --resume after "
         "removing the file",
         path, e.what());
  }
}

bool Catalog::returned_since() const {
  return return_ && (entries_.empty() || entries_.back().state.sequence < return_->sequence);
}

bool Catalog::is_in_the_way(const Unreadable& one) const {
  const std::int64_t newest = entries_.empty() ? -1 : entries_.back().state.step;
  return one.step > newest && lineage().branches().empty();
}

bool Catalog::stands_on(const std::string& checkpoint) const {
  const auto blocks = [&](const Unreadable& one) { return is_in_the_way(one); };
  if (std::any_of(unreadable_.begin(), unreadable_.end(), blocks)) return false;
  const fs::path place = returned_since()
                             ? return_->checkpoint.empty() ? fs::path() : dir_ / return_->checkpoint
                         : entries_.empty() ? fs::path()
                                            : fs::path(entries_.back().path);
  return checkpoint.empty() || place.empty() ? checkpoint.empty() && place.empty()
                                             : is_same(place, checkpoint);
}

std::string Catalog::standing() const {
  if (returned_since()) {
    if (return_->checkpoint.empty()) return "";
    const fs::path path = dir_ / return_->checkpoint;  // an absolute one stays as it is
    if (!is_committed(path)) {
      fail(ExitCode::kData, "{}: the run went back to this checkpoint, which is no more; name another one",
           path.string());
    }
    return path.string();
  }
  for (const Unreadable& one : unreadable_) {
    if (is_in_the_way(one)) fail(ExitCode::kData, "{}", one.problem);
    log_warning("{}; passed over", one.problem);
  }
  const std::int64_t newest = entries_.empty() ? -1 : entries_.back().state.step;
  for (const fs::path& path : unfinished_) {
    if (step_of(path.filename().string()) < newest) continue;
    log_warning("{}: not a checkpoint, it was never finished (no {}); skipped", path.string(), kManifestName);
  }
  return entries_.empty() ? "" : entries_.back().path;
}

Origin Catalog::origin_of(const std::string& checkpoint) const {
  return !checkpoint.empty() && is_same(fs::path(checkpoint) / "..", dir_) ? Origin::kOwn
                                                                           : Origin::kElsewhere;
}

Lineage Catalog::lineage() const {
  if (!returned_since()) return entries_.empty() ? Lineage() : entries_.back().state.lineage;
  for (const Entry& entry : entries_) {
    if (is_same(entry.path, dir_ / return_->checkpoint)) {
      return lineage_from(entry.state, Origin::kOwn, return_->sequence);
    }
  }
  return lineage_from({}, Origin::kElsewhere, return_->sequence);
}

std::uint64_t Catalog::last_sequence() const {
  const std::uint64_t saved = entries_.empty() ? 0 : entries_.back().state.sequence;
  return std::max(saved, return_ ? return_->sequence : 0);
}

std::uint64_t Catalog::write_return(const std::string& checkpoint) {
  Return now{last_sequence() + 1, ""};
  if (!checkpoint.empty()) {
    // By name, so that a copy of the run's directory says the same.
    const fs::path path = fs::absolute(checkpoint).lexically_normal();
    const fs::path directory = path.has_filename() ? path : path.parent_path();
    now.checkpoint =
        is_same(directory.parent_path(), dir_) ? directory.filename().string() : directory.string();
  }
  make_directories(dir_.string());
  const std::string path = (dir_ / kReturnName).string();
  {
    File file = File::create(path + ".tmp");
    const nlohmann::json json = {{"sequence", now.sequence}, {"checkpoint", now.checkpoint}};
    file.write(json.dump() + "\n");
    file.sync();
  }
  rename_durably(path + ".tmp", path);
  return_ = now;
  return now.sequence;
}

Lineage lineage_from(const TrainState& state, Origin origin, std::uint64_t branch) {
  Lineage lineage = origin == Origin::kOwn ? state.lineage : Lineage();
  if (branch > 0) lineage.take({branch, origin == Origin::kOwn ? state.step : 0});
  return lineage;
}

std::optional<std::string> latest_checkpoint(const std::string& dir) {
  const std::string path = Catalog(dir).standing();
  return path.empty() ? std::nullopt : std::optional(path);
}

std::string find_checkpoint(const std::string& path) {
  if (is_committed(path)) return path;
  for (const fs::path& dir : {fs::path(path), fs::path(path) / "checkpoints"}) {
    const Catalog catalog(dir.string());
    const std::string standing = catalog.standing();
    if (!standing.empty()) return standing;
    if (catalog.entries().empty()) continue;
    fail(ExitCode::kData,
         "{}: the run went back to its beginning and has saved nothing since; name one of its "
         "earlier checkpoints, the last is {}",
         path, catalog.entries().back().path);
  }
  fail(ExitCode::kData, "{}: no checkpoint here, nor in its checkpoints/", path);
}

}  // namespace jevons
