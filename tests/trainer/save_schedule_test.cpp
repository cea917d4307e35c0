// checkpoint.interval = auto: Young's rule with measured costs, bounds, and whole runs.
#include "trainer/run/save_schedule.h"

#include <cmath>

#include "tests/data/temp_files.h"
#include "tests/support/catch.h"
#include "tests/trainer/training_run.h"
#include "trainer/checkpoint/catalog.h"

namespace jevons {
namespace {

using Seconds = SaveSchedule::Seconds;

// A clock whose phases are set by hand.
struct HandClock {
  Seconds seconds{};
  void pass(Phase phase, double s) { seconds[static_cast<std::size_t>(phase)] += s; }
};

CheckpointConfig bounds(double min_minutes, double max_minutes) {
  CheckpointConfig config;
  config.interval = CheckpointConfig::kAuto;
  config.auto_min_minutes = min_minutes, config.auto_max_minutes = max_minutes;
  return config;
}

// Steps of 1 s; a save stalls for 2 s and makes the two steps beside it slower by half a second each.
void one_save(SaveSchedule& schedule, HandClock& clock) {
  for (int step = 0; step < 10; ++step) {
    clock.pass(Phase::kCompute, 1);
    schedule.step(clock.seconds, SaveSchedule::Beside::kNothing);
  }
  schedule.begun(clock.seconds);
  clock.pass(Phase::kCheckpoint, 2);
  for (int step = 0; step < 2; ++step) {
    clock.pass(Phase::kCompute, 1.5);
    schedule.step(clock.seconds, SaveSchedule::Beside::kSave);
  }
  schedule.committed(clock.seconds, 2);
}

}  // namespace

TEST_CASE("schedule: the best interval is Young's, at most the time between failures", "[schedule]") {
  CHECK(best_seconds_between_saves(2, 3600) == Approx(120));
  CHECK(best_seconds_between_saves(0, 3600) == 0);
  CHECK(best_seconds_between_saves(1800, 3600) == Approx(3600));
  CHECK(best_seconds_between_saves(7200, 3600) == 3600);
  // Of all intervals it loses least: saves per second plus half an interval per failure.
  const auto loss = [](double t) { return 2 / t + t / 2 / 3600; };
  CHECK(loss(120) < loss(100));
  CHECK(loss(120) < loss(140));
}

TEST_CASE("schedule: failures per device-second become failures of the job", "[schedule]") {
  CHECK(mean_seconds_between_failures({.failures = 4, .device_seconds = 8000}, 10) == Approx(200));
  CHECK(mean_seconds_between_failures({}, 100) == Approx(500 * 3600));
  CHECK(mean_seconds_between_failures({.device_seconds = 7.2e8}, 100) == Approx(7.2e6));
}

TEST_CASE("schedule: cost is what is measured, in the stall and beside it", "[schedule]") {
  HandClock clock;
  clock.pass(Phase::kInit, 100);
  // 2 devices that fail every 3000 s.
  SaveSchedule schedule(bounds(0.5, 60), {.failures = 1, .device_seconds = 6000 - 2 * 115}, 2, clock.seconds);
  CHECK(schedule.interval() == 30);  // nothing is measured yet: as often as allowed
  CHECK_FALSE(schedule.is_due(clock.seconds));
  one_save(schedule, clock);
  CHECK(schedule.interval() == Approx(std::sqrt(2 * 3 * 3000)));
  CHECK_FALSE(schedule.is_due(clock.seconds));
  clock.pass(Phase::kCompute, schedule.interval() - 4.9);  // 5 s since it began
  CHECK(schedule.is_due(clock.seconds));
  schedule.begun(clock.seconds);
  CHECK_FALSE(schedule.is_due(clock.seconds));
}

TEST_CASE("schedule: bounds hold", "[schedule]") {
  HandClock clock;
  SaveSchedule rare(bounds(0, 2), {}, 1, clock.seconds);
  one_save(rare, clock);
  CHECK(rare.interval() == 120);
  SaveSchedule often(bounds(10, 60), {.failures = 1000, .device_seconds = 1000}, 1, clock.seconds);
  one_save(often, clock);
  CHECK(often.interval() == 600);
}

TEST_CASE("schedule: a run with interval auto saves by itself, on all ranks together", "[schedule][ranks]") {
  const TempDir dir;
  test::write_corpus(dir / "corpus");
  const std::string yaml = test::tiny_yaml(dir / "corpus", dir / "run");
  // So short a least interval, and launches that died so often, that every step is worth saving.
  CHECK(test::train(2, yaml,
                    {"checkpoint.interval=auto", "checkpoint.auto_min_minutes=0",
                     "checkpoint.auto_max_minutes=1e-6", "parallel.ep=2"}) == ExitCode::kOk);
  CHECK(steps_in(dir / "run/checkpoints").size() == 8);
  // Within an hour this run is over.
  const std::string other = test::tiny_yaml(dir / "corpus", dir / "other");
  CHECK(test::train(2, other, {"checkpoint.interval=auto", "checkpoint.auto_min_minutes=59"}) ==
        ExitCode::kOk);
  CHECK(steps_in(dir / "other/checkpoints").size() == 1);
}

}  // namespace jevons
