// What the account of cost and the watchdog take from a step, piece by piece, and as a share of a step of
// given length. usage: mpirun -n 2 bench_account [seconds of a step] [phase changes in a step] [directory for
// the ledger]
#include <fmt/core.h>

#include <chrono>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <functional>
#include <thread>
#include <utility>
#include <vector>

#include "kernels/core/phase_clock.h"
#include "parallel/mpi/mpi_session.h"
#include "tests/bench/measure.h"
#include "trainer/cost/energy.h"
#include "trainer/cost/ledger_pulse.h"
#include "trainer/cost/sign_of_life.h"
#include "trainer/report/event_file.h"
#include "trainer/report/metrics_writer.h"

namespace jevons::bench {
namespace {

constexpr double kHeartbeatSeconds = 10;  // default of cost.heartbeat_seconds
constexpr double kEnergySeconds = 1;      // a reading may be this old
constexpr double kLimit = 0.005;          // of a step

// Median seconds of one call of `body`, over `samples` samples of `calls` calls.
double time_of(int samples, int calls, const std::function<void()>& body) {
  std::vector<double> seconds;
  for (int s = 0; s < samples; ++s) {
    const auto begin = std::chrono::steady_clock::now();
    for (int c = 0; c < calls; ++c) body();
    seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() /
                      calls);
  }
  return median(seconds);
}

constexpr std::chrono::seconds kOld(60);  // of a worker that gives few signs

// Of one sign of life, in CPU time of its thread and of the kernel under it.
double cpu_seconds_of_a_sign(const std::string& directory) {
  const auto cpu_seconds = [] {
    timespec time{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
  };
  constexpr std::chrono::seconds kWatched(3);
  const SignOfLife sign(directory, {.devices = 1}, {}, std::chrono::steady_clock::now() - kOld);
  const double before = cpu_seconds();
  std::this_thread::sleep_for(kWatched);
  return (cpu_seconds() - before) * (sign_interval(1, kOld.count()) / kWatched);
}

StepMetrics some_metrics() {
  StepMetrics m;
  m.step = 100, m.tokens = 204800, m.loss = 1.8, m.lr = 3e-4, m.currency = "USD";
  m.layers.resize(4);
  return m;
}

// Prints a line per piece and adds up what each takes of a step.
class Sum {
 public:
  Sum(double step_seconds, bool prints) : step_seconds_(step_seconds), prints_(prints) {
    if (prints_) fmt::print("{:<34} {:>12} {:>14} {:>12}\n", "", "us a time", "us a step", "of a step");
  }
  void add(const char* name, double seconds, double times_a_step) {
    const double a_step = seconds * times_a_step;
    total_ += a_step;
    if (prints_) print(name, fmt::format("{:.3f}", 1e6 * seconds), a_step);
  }
  double share() const { return total_ / step_seconds_; }
  void finish() const {
    if (!prints_) return;
    print("account", "", total_);
    fmt::print("{} the limit of {:.1f} % of a step of {:.3f} s\n", share() < kLimit ? "within" : "ABOVE",
               100 * kLimit, step_seconds_);
  }

 private:
  void print(const char* name, const std::string& once, double a_step) const {
    fmt::print("{:<34} {:>12} {:>14.2f} {:>10.4f} %\n", name, once, 1e6 * a_step,
               100 * a_step / step_seconds_);
  }
  double step_seconds_, total_ = 0;
  bool prints_;
};

int run(Communicator& world, double step_seconds, double phase_changes, const std::string& directory) {
  Sum sum(step_seconds, world.rank() == 0);
  Whereabouts whereabouts;
  PhaseClock clock;
  clock.report_to(whereabouts);
  sum.add("enter and leave a phase", time_of(21, 100000, [&] { PhaseScope s(&clock, Phase::kCompute); }),
          phase_changes);
  const CollectiveCall call{.name = "all_to_all_v", .over = "ep", .number = 1, .peer = -1};
  sum.add("enter and leave a collective", time_of(21, 100000, [&] { CollectiveScope s(&whereabouts, call); }),
          phase_changes);
  std::vector<double> totals(kNumPhases + 2, 1);
  const Tensor tensor{totals.data(), {kNumPhases + 2}, DType::kF64, Device::kCpu};
  world.barrier();
  sum.add("sum of phases and energy over ranks", time_of(21, 200, [&] { world.all_reduce(tensor).wait(); }),
          1);
  world.barrier();
  if (world.rank() != 0) return 0;

  sum.add("sign of life", cpu_seconds_of_a_sign(directory),
          step_seconds / sign_interval(1, kOld.count()).count());
  Ledger ledger(directory + "/ledger.jsonl", {}, std::chrono::steady_clock::now());
  // By a thread, after half an interval at the soonest; counted as if it took a core from training.
  sum.add("heartbeat, flushed to disk", time_of(21, 1, [&] { ledger.heartbeat({}); }),
          2 * step_seconds / kHeartbeatSeconds);
  LedgerPulse pulse(std::move(ledger), std::chrono::duration<double>(kHeartbeatSeconds));
  sum.add("totals for the next heartbeat", time_of(21, 1000, [&] { pulse.update({}); }), 1);
  MetricsWriter metrics(directory + "/metrics.jsonl", 0);
  EventFile events(directory, 1);
  const StepMetrics m = some_metrics();
  sum.add("line of metrics, TensorBoard", time_of(21, 50, [&] { metrics.write(m), events.write(m); }), 1);
  if (const auto meter = open_rapl()) {
    sum.add("reading the energy counters", time_of(21, 20, [&] { meter->joules(); }),
            std::min(1.0, step_seconds / kEnergySeconds));
  }
  sum.finish();
  return sum.share() < kLimit ? 0 : 1;
}

}  // namespace
}  // namespace jevons::bench

int main(int argc, char** argv) {
  jevons::MpiSession session;
  const double step_seconds = argc > 1 ? std::atof(argv[1]) : 0.1;
  const double phase_changes = argc > 2 ? std::atof(argv[2]) : 200;
  const std::string directory = argc > 3 ? argv[3] : "build/bench_account";
  std::filesystem::create_directories(directory);
  return jevons::bench::run(session.world(), step_seconds, phase_changes, directory);
}
