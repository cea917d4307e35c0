#include "trainer/run/save_schedule.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "kernels/core/log.h"
#include "trainer/io/format.h"

namespace jevons {
namespace {

constexpr std::size_t kRememberedSteps = 32, kRememberedSaves = 5;
constexpr double kWorthSaying = 1.2;  // a choice that differs by this factor from the one in the log

double time_of(const SaveSchedule::Seconds& seconds) {
  return std::accumulate(seconds.begin(), seconds.end(), 0.0);
}

// Of training alone: saves and validation are not slower beside a save in a way that matters here.
double training_of(const SaveSchedule::Seconds& seconds) {
  return time_of(seconds) - seconds[static_cast<std::size_t>(Phase::kCheckpoint)] -
         seconds[static_cast<std::size_t>(Phase::kEval)];
}

// 0 for none.
double median(std::deque<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

void remember(std::deque<double>& values, double value, std::size_t most) {
  values.push_back(value);
  if (values.size() > most) values.pop_front();
}

}  // namespace

SaveSchedule::SaveSchedule(const CheckpointConfig& config, const FailureRecord& history, std::int64_t devices,
                           const Seconds& now)
    : config_(config),
      history_(history),
      devices_(devices),
      interval_(60 * config.auto_min_minutes),
      begun_(time_of(now)),
      last_(now) {}

void SaveSchedule::step(const Seconds& now, Beside beside) {
  const double seconds = training_of(now) - training_of(last_);
  last_ = now;
  if (beside == Beside::kSave) {
    beside_.push_back(seconds);
  } else {
    remember(quiet_, seconds, kRememberedSteps);
  }
}

void SaveSchedule::begun(const Seconds& now) {
  begun_ = time_of(now);
  beside_.clear();
}

void SaveSchedule::committed(const Seconds& now, double stall) {
  double slowed = 0;
  if (!quiet_.empty()) {
    const double quiet = median(quiet_);
    for (const double seconds : beside_) slowed += seconds - quiet;
  }
  remember(stalls_, stall, kRememberedSaves);
  remember(slowed_, std::max(0.0, slowed), kRememberedSaves);
  choose(now);
}

bool SaveSchedule::is_due(const Seconds& now) const {
  return time_of(now) - begun_ >= interval_;
}

void SaveSchedule::choose(const Seconds& now) {
  const double stall = median(stalls_), slowed = median(slowed_);
  FailureRecord record = history_;
  record.device_seconds += time_of(now) * static_cast<double>(devices_);
  const double mtbf = mean_seconds_between_failures(record, devices_);
  const double best = best_seconds_between_saves(stall + slowed, mtbf);
  interval_ = std::clamp(best, 60 * config_.auto_min_minutes, 60 * config_.auto_max_minutes);
  const double change = explained_ > 0 ? interval_ / explained_ : 0;
  if (change < kWorthSaying && change > 1 / kWorthSaying) return;
  explained_ = interval_;
  log_info(
      "checkpoint.interval auto: a save every {}{}; a save costs {:.3f} s (training stalls {:.3f} s, steps "
      "beside it are slower by {:.3f} s), and {} workers see a failure every {} ({})",
      format_duration(interval_),
      interval_ == best ? "" : fmt::format(", a bound; Young's rule says {}", format_duration(best)),
      stall + slowed, stall, slowed, devices_, format_duration(mtbf),
      record.failures > 0 ? fmt::format("{} launches without an exit record in {} device-hours",
                                        record.failures, format_device_hours(record.device_seconds))
                          : fmt::format("assumed; none in {} device-hours so far",
                                        format_device_hours(record.device_seconds)));
}

}  // namespace jevons
