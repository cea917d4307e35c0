#include "trainer/run/watchdog.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <exception>
#include <filesystem>

#include "kernels/core/error.h"
#include "kernels/core/host_name.h"
#include "kernels/core/log.h"
#include "parallel/agree.h"
#include "parallel/host_exchange.h"
#include "trainer/io/file.h"
#include "trainer/run/signals.h"

namespace jevons {
namespace {

namespace fs = std::filesystem;

// Seconds. Open MPI 5 gives a job 0.25 s between SIGTERM and SIGKILL, Open MPI 4 one second.
constexpr double kPoll = 0.05;
constexpr double kStopped = 4;

double since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// For the others to write their reports, over a file system that shows new files late.
double grace(const WatchdogConfig& config) {
  return std::clamp(std::max(config.stall_seconds, config.step_seconds) / 10, 1.0, 60.0);
}

std::vector<RankIdentity> gather_identities(Communicator& world) {
  std::vector<RankIdentity> ranks;
  const std::vector<std::string> hosts = all_gather_texts(world, host_name());
  const std::vector<std::string> processes = all_gather_texts(world, std::to_string(getpid()));
  for (std::size_t r = 0; r < hosts.size(); ++r)
    ranks.push_back({static_cast<int>(r), hosts[r], std::stoi(processes[r])});
  return ranks;
}

}  // namespace

Watchdog::Watchdog(const WatchdogConfig& config, const std::string& directory, Communicator& world,
                   const Whereabouts& whereabouts)
    : config_(config),
      directory_(directory),
      rank_(world.rank()),
      ranks_(gather_identities(world)),
      whereabouts_(whereabouts),
      place_(whereabouts.now()),
      looked_(Clock::now()),
      progress_(looked_),
      step_begun_(looked_) {
  agree(world, [&] {
    if (rank_ != 0) return;
    std::error_code ignored;
    fs::remove_all(directory_, ignored);
  });
  if (std::max({config.stall_seconds, config.long_stall_seconds, config.connect_seconds,
                config.step_seconds}) > 0) {
    thread_ = std::thread([this] { watch(); });
    listener_ = std::thread([this] { listen(); });
  }
}

Watchdog::~Watchdog() {
  {
    const std::lock_guard lock(mutex_);
    done_ = true;
  }
  changed_.notify_all();
  for (std::thread* thread : {&thread_, &listener_}) {
    if (thread->joinable()) thread->join();
  }
}

// Whether the watchdog's work is done.
bool Watchdog::pause(double seconds) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, std::chrono::duration<double>(seconds), [&] { return done_; });
}

void Watchdog::watch() {
  while (!pause(kPoll)) {
    look();
    say_last_words();
    std::string reason = problem();
    if (reason.empty() && alarm_) reason = "asked by another rank";
    if (!reason.empty()) end_job(reason);
  }
}

void Watchdog::look() {
  const Clock::time_point now = Clock::now();
  // If this thread slept too, the whole process was stopped, as by a debugger or a suspended job.
  const bool stopped = std::chrono::duration<double>(now - looked_).count() > kStopped;
  looked_ = now;
  const WorkerPlace place = whereabouts_.now();
  if (place.changes != place_.changes || stopped) progress_ = now;
  if (place.steps_begun != place_.steps_begun || stopped) step_begun_ = now;
  place_ = place;
}

// Starting, saving and ending take their time, and in the first step devices prepare. But a network that does
// not connect now will not later.
double Watchdog::limit(const WorkerPlace& place) const {
  if (place.in_collective && place.connects) return config_.connect_seconds;
  const bool is_long = place.phase == Phase::kInit || place.phase == Phase::kCheckpoint ||
                       place.phase == Phase::kShutdown || place.steps_begun <= 1;
  return is_long ? config_.long_stall_seconds : config_.stall_seconds;
}

std::string Watchdog::problem() const {
  const double idle = since(progress_), limit = this->limit(place_), step = since(step_begun_);
  if (limit > 0 && idle > limit) return fmt::format("no progress for {:.1f} s", idle);
  const bool step_counts = place_.in_step && place_.steps_begun > 1 && config_.step_seconds > 0;
  if (step_counts && step > config_.step_seconds) return fmt::format("a step runs for {:.1f} s", step);
  return "";
}

// Waits for another rank's alarm. On a thread of its own: a file system that hangs must not keep this rank
// from seeing that it makes no progress.
void Watchdog::listen() {
  while (!alarm_ && !pause(std::min(5.0, grace(config_) / 5))) {
    std::error_code ignored;
    alarm_ = fs::exists(alarm_path(), ignored);
  }
}

// A job that lost a rank is told to stop by its launcher while this rank waits for the lost one.
void Watchdog::say_last_words() {
  if (stop_seen_ || !term_received() || since(progress_) < 2 * kPoll) return;
  stop_seen_ = true;
  log_warning("told to stop; it was here: {}{}", describe(place_), describe_dispatch(place_));
  log_flush();
}

// Of this launch alone: a file system may show what an earlier one wrote for a while after it was removed.
std::string Watchdog::alarm_path() const {
  const RankIdentity& first = ranks_.front();
  return fmt::format("{}/alarm-{}-{}", directory_, first.host, first.process);
}

std::string Watchdog::path_of(int rank) const {
  return fmt::format("{}/rank-{:05}.json", directory_, rank);
}

void Watchdog::write_own_report(const std::string& reason) const {
  const RankReport report{.rank = rank_, .idle_seconds = since(progress_), .place = place_};
  const RankIdentity& identity = ranks_[static_cast<std::size_t>(rank_)];
  make_directories(directory_);
  File::create(alarm_path());
  const std::string path = path_of(rank_);
  File::create(path + ".tmp").write(to_json(report, identity, reason));
  fs::rename(path + ".tmp", path);
}

// Said by the rank that comes first; and by rank 0 in any case: when hosts have lost each other, it is the
// one that the launcher hears most likely.
void Watchdog::write_summary() const {
  std::error_code failed;
  const bool first = fs::create_directory(directory_ + "/summary", failed);
  if (!first && rank_ != 0) return;
  std::vector<RankReport> reports;
  for (const RankIdentity& identity : ranks_) {
    if (fs::exists(path_of(identity.rank))) {
      reports.push_back(parse_rank_report(read_text_file(path_of(identity.rank))));
    }
  }
  const std::string text = summarise(ranks_, reports);
  log_error("the job does not get on and is ended, exit code {}. {}More in {}",
            static_cast<int>(ExitCode::kFailure), text, directory_);
  log_flush();
  if (first) File::create(directory_ + "/summary.txt").write(text);
}

void Watchdog::end_job(const std::string& reason) {
  constexpr int kCode = static_cast<int>(ExitCode::kFailure);
  // The file system may be what hangs, and with it the log.
  std::thread([wait = 3 * grace(config_)] {
    std::this_thread::sleep_for(std::chrono::duration<double>(wait));
    _exit(kCode);
  }).detach();
  log_warning("watchdog: {}; this rank is here: {}{}", reason, describe(place_), describe_dispatch(place_));
  log_flush();
  try {
    write_own_report(reason);
    pause(grace(config_));
    write_summary();
  } catch (const std::exception& e) {
    log_error("watchdog: {}", e.what());
  }
  log_flush();
  pause(grace(config_) / 2);  // the summary speaks before the launcher ends everyone
  _exit(kCode);
}

}  // namespace jevons
