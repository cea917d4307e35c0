#include "trainer/cost/lives.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <utility>

#include "trainer/cost/ledger_json.h"
#include "trainer/cost/sign_of_life.h"

namespace jevons {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

bool is_hidden(const fs::path& path) {
  return path.filename().string().starts_with(".");
}

std::vector<std::string> files_in(const std::string& directory) {
  std::vector<std::string> files;
  std::error_code error;  // none there: no files
  for (fs::directory_iterator at(directory, error); !error && at != fs::directory_iterator();
       at.increment(error)) {
    files.push_back(at->path().string());
  }
  std::sort(files.begin(), files.end());
  return files;
}

void take(const json& record, WorkerLife& life) {
  const std::string kind = record.at("kind");
  if (kind == "start") {
    life.info = launch_info(record);
    life.worker = record.at("worker"), life.rank = record.at("rank"), life.job = record.at("job");
    life.start_time = record.at("start_time");
  } else if (kind == "alive") {
    life.elapsed = record.at("elapsed");
  } else if (kind == "joined") {
    life.info.launch = record.at("launch"), life.rank = record.at("rank");
  } else if (kind == "exit") {
    life.exit = {record.at("reason").get<std::string>(), record.at("code").get<int>()};
  }
}

// Nothing, and a word in `problems`, unless start and age can be read.
std::optional<WorkerLife> read_life(const std::string& path, std::vector<std::string>& problems) {
  WorkerLife life;
  life.path = path;
  const std::string name = "alive/" + fs::path(path).filename().string();
  try {
    const std::string text = read_text_file(path);
    for (std::size_t begin = 0; begin < text.size();) {
      const std::size_t end = std::min(text.find('\n', begin), text.size());
      const std::string line = text.substr(begin, end - begin);
      begin = end + 1;
      if (check_ledger_line(line) == LineSeal::kGood) {
        take(json::parse(line), life);
      } else {
        problems.push_back(fmt::format("{}: a line is torn or changed, skipped", name));
      }
    }
    if (!life.worker.empty() && life.elapsed > 0) {
      // It lived on for up to an interval; on average half of one.
      life.elapsed += sign_interval(life.info.devices, life.elapsed).count() / 2;
      return life;
    }
    problems.push_back(fmt::format("{}: says not whose life it is, or how long; not counted", name));
  } catch (const std::exception& e) {  // also a file that goes at this moment: its launch has its end record
    if (fs::exists(path)) problems.push_back(fmt::format("{}: not counted: {}", name, e.what()));
  }
  return std::nullopt;
}

bool has_rank(const StartLives& start, int rank) {
  return std::any_of(start.workers.begin(), start.workers.end(),
                     [&](const WorkerLife& life) { return life.rank == rank; });
}

// A worker that had not joined belongs to the start of its job that has no such rank yet and began nearest.
StartLives* start_of(const WorkerLife& life, std::vector<StartLives>& starts) {
  StartLives* nearest = nullptr;
  const auto distance = [&](const StartLives& start) {
    return std::abs(start.workers.front().start_time - life.start_time);
  };
  for (StartLives& start : starts) {
    if (start.workers.front().job != life.job || has_rank(start, life.rank)) continue;
    if (nearest == nullptr || distance(start) < distance(*nearest)) nearest = &start;
  }
  return nearest;
}

Launch* launch_named(const std::string& id, LedgerContents& contents) {
  for (Launch& launch : contents.launches) {
    if (launch.id == id) return &launch;
  }
  return nullptr;
}

// Of a launch that the ledger knows. Records of rank 0 may be younger than its last sign.
LaunchEnd end_of_launch(const StartLives& start, const Launch& launch) {
  const double last_record = launch.beats.empty() ? 0 : launch.beats.back().elapsed;
  LaunchEnd end{last_record, 0};
  std::map<int, double> lives;
  for (const WorkerLife& life : start.workers) {
    lives[life.rank] = life.rank == 0 ? std::max(life.elapsed, last_record) : life.elapsed;
    end.elapsed = std::max(end.elapsed, lives[life.rank]);
  }
  const std::int64_t devices = launch.has_record ? launch.info.devices : start.workers.front().info.devices;
  for (std::int64_t rank = 0; rank < devices; ++rank) {
    const auto found = lives.find(static_cast<int>(rank));
    end.allocated += found != lives.end() ? found->second : end.elapsed;
  }
  return end;
}

Launch launch_of(const StartLives& start) {
  const WorkerLife& first = start.workers.front();
  Launch launch;
  launch.id = start.launch;
  launch.has_record = launch.early = true;
  launch.info = first.info;
  launch.info.launch = start.launch;
  launch.start_time = first.start_time;
  launch.exit = first.exit;
  launch.end.emplace();
  launch.info.hosts.clear();
  for (const WorkerLife& life : start.workers) {
    launch.info.hosts.insert(launch.info.hosts.end(), life.info.hosts.begin(), life.info.hosts.end());
    launch.end->elapsed = std::max(launch.end->elapsed, life.elapsed);
    launch.end->allocated += life.elapsed;
  }
  launch.beats.push_back({first.start_time, 0, {}, true});
  return launch;
}

// What the ledger lacks of a launch that is over.
void append_last_records(const std::string& path, const Launch& launch, bool is_new) {
  if (is_new) {
    File file = File::append(path);
    append_ledger_line(file, ledger_line(info_json("start", launch.info, launch.start_time, 0)));
    if (launch.exit) {
      nlohmann::ordered_json exit = {{"kind", "exit"},
                                     {"launch", launch.id},
                                     {"time", launch.start_time + launch.end->elapsed},
                                     {"elapsed", launch.end->elapsed},
                                     {"reason", launch.exit->reason},
                                     {"code", launch.exit->code}};
      exit.update(totals_json(std::nullopt, launch.end->allocated));
      append_ledger_line(file, ledger_line(exit));
    }
  }
  append_launch_end(path, launch.id, *launch.end);
}

// Files of `directory` whose process is over, held by our own lock. None where locks are not supported.
std::map<std::string, File> dead_files(const std::string& directory) {
  std::map<std::string, File> dead;
  for (const std::string& path : files_in(directory)) {
    try {
      File file = File::update(path);
      const FileLock lock = file.try_lock();
      if (lock == FileLock::kUnsupported) return {};
      if (lock == FileLock::kTaken) dead.emplace(path, std::move(file));
    } catch (const Error&) {  // gone, or of another user
    }
  }
  return dead;
}

}  // namespace

std::string ledger_of(const std::string& run_dir) {
  return (fs::path(run_dir) / "ledger.jsonl").lexically_normal().string();
}

std::string alive_directory(const std::string& run_dir) {
  return (fs::path(run_dir) / "alive").lexically_normal().string();
}

std::vector<StartLives> read_lives(const std::string& run_dir, std::vector<std::string>& problems) {
  std::vector<StartLives> starts;
  std::vector<WorkerLife> unjoined;
  for (const std::string& path : files_in(alive_directory(run_dir))) {
    if (is_hidden(path)) continue;
    std::optional<WorkerLife> life = read_life(path, problems);
    if (!life) continue;
    if (life->info.launch.empty()) {
      unjoined.push_back(std::move(*life));
      continue;
    }
    const auto same = [&](const StartLives& start) { return start.launch == life->info.launch; };
    auto start = std::find_if(starts.begin(), starts.end(), same);
    if (start == starts.end()) start = starts.insert(starts.end(), {life->info.launch, {}});
    start->workers.push_back(std::move(*life));
  }
  for (WorkerLife& life : unjoined) {
    StartLives* start = start_of(life, starts);
    if (start == nullptr) start = &starts.emplace_back(StartLives{life.worker, {}});
    start->workers.push_back(std::move(life));
  }
  for (StartLives& start : starts) {
    std::sort(start.workers.begin(), start.workers.end(),
              [](const WorkerLife& a, const WorkerLife& b) { return a.rank < b.rank; });
  }
  return starts;
}

void add_lives(const std::vector<StartLives>& starts, LedgerContents& contents) {
  for (const StartLives& start : starts) {
    Launch* launch = launch_named(start.launch, contents);
    if (launch == nullptr) {
      contents.launches.push_back(launch_of(start));
    } else if (!launch->end) {
      launch->end = launch->early ? launch_of(start).end : end_of_launch(start, *launch);
    }
  }
}

void book_lives(const std::string& run_dir, const std::string& own_launch) {
  const std::string path = ledger_of(run_dir);
  const std::map<std::string, File> dead = dead_files(alive_directory(run_dir));
  std::vector<std::string> ignored;
  const std::vector<StartLives> starts = read_lives(run_dir, ignored);
  if (starts.empty()) return;
  LedgerContents contents = read_ledger(path);
  const LedgerContents recorded = read_ledger_records(path);
  std::string own_job;
  for (const StartLives& start : starts) {
    if (start.launch == own_launch && !own_launch.empty()) own_job = start.workers.front().job;
  }
  for (const StartLives& start : starts) {
    const bool over = std::all_of(start.workers.begin(), start.workers.end(), [&](const WorkerLife& life) {
      return dead.contains(life.path) && (own_job.empty() || life.job != own_job);
    });
    if (!over || start.launch == own_launch) continue;
    const auto known = std::find_if(recorded.launches.begin(), recorded.launches.end(),
                                    [&](const Launch& launch) { return launch.id == start.launch; });
    const bool is_new = known == recorded.launches.end();
    const Launch* launch = launch_named(start.launch, contents);
    if (launch != nullptr && (is_new || !known->end)) append_last_records(path, *launch, is_new);
    for (const WorkerLife& life : start.workers) remove_file(life.path);
  }
  for (const auto& [file, lock] : dead) {
    if (is_hidden(file)) remove_file(file);
  }
}

}  // namespace jevons
