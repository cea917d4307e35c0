// jevons train: one worker of a run.
#include <algorithm>
#include <filesystem>
#include <memory>
#include <thread>

#include "kernels/core/device_runtime.h"
#include "kernels/core/error.h"
#include "kernels/core/log.h"
#include "kernels/core/whereabouts.h"
#include "parallel/agree.h"
#include "trainer/commands/commands.h"
#include "trainer/compute_device.h"
#include "trainer/config/prices.h"
#include "trainer/cost/device_peaks.h"
#include "trainer/host.h"
#include "trainer/io/clock.h"
#include "trainer/run_ledger.h"
#include "trainer/run_lock.h"
#include "trainer/signals.h"
#include "trainer/trainer.h"
#include "trainer/watchdog.h"

namespace jevons {
namespace {

// Workers of one node share its cores; a binding that gives a worker fewer is respected.
int threads_per_worker(int local_workers) {
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  return std::clamp(cores / local_workers, 1, usable_cores());
}

// Name and peak of the GPUs, unless the configuration says otherwise. Those of a host are alike.
void describe_gpu(CostConfig& cost) {
  const std::string name = cuda::device_name(0);
  if (cost.device_type.empty()) cost.device_type = name;
  if (cost.peak_tflops == 0) cost.peak_tflops = known_peak_tflops(name);
}

// Collective.
RunConfig read_config(const ConfigArguments& arguments, Communicator& world) {
  RunConfig config;
  agree(world, [&] {
    config = load_run_config(arguments.file, arguments.overrides);
    validate_for_world(config, world.size());
    validate_for_training(config);
  });
  config.device = choose_device(config.device, world);
  agree(world, [&] {
    if (config.device == DeviceChoice::kCuda) {
      validate_for_gpu(config);
      describe_gpu(config.cost);
    }
    resolve_price(config.cost, device_type(config), unix_time());
  });
  return config;
}

// Of another run in this directory that is about to end, after a kill for example.
constexpr auto kLockPatience = std::chrono::seconds(10);

// Makes the run's directory, takes it for this run alone, and opens every rank's own log file in it.
std::unique_ptr<RunLock> claim_run_directory(const RunConfig& config, Communicator& world) {
  const std::string logs = config.run_dir + "/logs";
  std::unique_ptr<RunLock> lock;
  agree(world, [&] {
    if (world.rank() != 0) return;
    std::error_code error;
    std::filesystem::create_directories(logs, error);
    if (error) fail(ExitCode::kUsage, "{}: cannot make the log directory: {}", logs, error.message());
    lock = std::make_unique<RunLock>(config.run_dir, kLockPatience);
  });
  log_to_file(fmt::format("{}/rank-{}.log", logs, world.rank()));
  return lock;
}

// Where this worker is, as its communicators and its clock tell; not after the run.
struct Tracked {
  explicit Tracked(Communicator& over) : world(over), whereabouts(std::make_unique<Whereabouts>()) {
    world.set_whereabouts(whereabouts.get());
  }
  ~Tracked() { world.set_whereabouts(nullptr); }
  Tracked(const Tracked&) = delete;
  Tracked& operator=(const Tracked&) = delete;

  Communicator& world;
  std::unique_ptr<Whereabouts> whereabouts;
};

StartOptions start_options(const TrainOptions& options) {
  StartOptions start{.resume = options.resume,
                     .init_from = options.init_from,
                     .deadline = {},
                     .local_rank = options.local_rank};
  if (options.resume != "auto" && options.resume != "never" && !options.init_from.empty()) {
    fail(ExitCode::kUsage, "--resume {} and --init-from {}: a run begins from one of them", options.resume,
         options.init_from);
  }
  if (options.exit_after_minutes > 0) {
    const std::chrono::duration<double, std::ratio<60>> limit(options.exit_after_minutes);
    start.deadline =
        options.process_start + std::chrono::duration_cast<std::chrono::steady_clock::duration>(limit);
  }
  return start;
}

}  // namespace

int run_train(const TrainOptions& options, Communicator& world) {
  const Tracked tracked(world);
  PhaseClock clock(options.process_start);
  clock.report_to(*tracked.whereabouts);
  catch_stop_signals();
  StartOptions start;
  agree(world, [&] { start = start_options(options); });
  RunConfig config = read_config(options.config, world);
  if (config.threads == 0) config.threads = threads_per_worker(options.local_workers);
  const std::unique_ptr<RunLock> lock = claim_run_directory(config, world);
  const std::string yaml = dump_run_config(options.config.file, options.config.overrides);
  const Watchdog watchdog(config.watchdog, config.run_dir + "/watchdog", world, *tracked.whereabouts);
  return static_cast<int>(train(config, yaml, world, clock, start));
}

}  // namespace jevons
