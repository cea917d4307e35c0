// jevons train: one worker of a run.
#include <filesystem>
#include <memory>
#include <utility>

#include "kernels/core/device.h"
#include "kernels/core/error.h"
#include "kernels/core/log.h"
#include "kernels/core/whereabouts.h"
#include "parallel/agree.h"
#include "parallel/host_exchange.h"
#include "trainer/commands/arguments.h"
#include "trainer/commands/commands.h"
#include "trainer/config/prices.h"
#include "trainer/cost/device_peaks.h"
#include "trainer/io/clock.h"
#include "trainer/run/host.h"
#include "trainer/run/run_directory.h"
#include "trainer/run/run_ledger.h"
#include "trainer/run/run_lock.h"
#include "trainer/run/signals.h"
#include "trainer/run/train.h"
#include "trainer/run/watchdog.h"
#include "trainer/step/compute_device.h"

namespace jevons {
namespace {

struct TrainOptions {
  ConfigArguments config;
  // auto: the checkpoint on which the run stands; never; or the path of a checkpoint.
  std::string resume = "auto";
  std::string init_from;          // else weights from there (open_model); empty: random weights
  double exit_after_minutes = 0;  // since the start of the process; 0: no limit
  std::chrono::steady_clock::time_point process_start;  // for the account of device-seconds
  int local_workers = 1;  // workers on this node, which share its cores (MpiSession::local_size)
  int local_rank = 0;     // of this one among them
};

// Of one worker, from before MPI is initialised until after it is finalised.
struct TrainStart {
  std::unique_ptr<RunLock> lock;     // on rank 0, once the run directory is claimed
  std::unique_ptr<SignOfLife> sign;  // null: the configuration is not one of a run
  ReadConfig read;                   // once; that of rank 0 counts
  std::exception_ptr problem;        // why nothing was read
};

// Name and peak of the GPUs, unless the configuration says otherwise. Those of a host are alike.
void describe_gpu(RunConfig& config) {
  const std::string name = device::name(0);
  CostConfig& cost = config.cost;
  if (cost.device_type.empty()) cost.device_type = name;
  if (cost.peak_tflops == 0) cost.peak_tflops = known_peak_tflops(name);
  if (config.train.precision == Precision::kF32)
    log_warning(
        "train.precision = f32 on a GPU: products in full 32 bits, attention by matrix products; bf16 is "
        "many "
        "times faster");
}

// Gives every worker what rank 0 has made of the files that it alone reads. Collective.
void share(RunConfig& config, Communicator& world) {
  const std::string yaml = broadcast_text(world, world.rank() == 0 ? config.to_yaml() : "");
  agree(world, [&] {
    if (world.rank() != 0) config = parse_run_config(yaml, "configuration of rank 0", {});
  });
}

// Resolved, and the same on every worker. Every mistake is reported at once. Collective.
RunConfig agree_on_config(const TrainStart& begun, Communicator& world) {
  const bool reads = world.rank() == 0;
  ReadConfig read = begun.read;
  agree(world, [&] {
    if (reads && begun.problem) std::rethrow_exception(begun.problem);
  });
  const ChosenDevice device = choose_device(read.config.device, world);
  agree(world, [&] {
    if (!reads) return;
    if (!device.obstacle.empty()) {
      read.findings.add_for("device", fmt::format("device: cuda: {}; use cpu or auto", device.obstacle));
    }
    read.config.device = device.choice;
    check_run(read.config, {.world = world.size(), .use = RunSetting::Use::kTraining}, read.findings);
    read.findings.throw_if_any();
    if (device.choice == DeviceChoice::kCuda) describe_gpu(read.config);
    resolve_price(read.config.cost, device_type(read.config), unix_time());
  });
  share(read.config, world);
  return read.config;
}

// Of another run in this directory that is about to end, after a kill for example.
constexpr auto kLockPatience = std::chrono::seconds(10);

// Makes the run's directory, takes it for this run alone, and opens every rank's own log file in it.
std::unique_ptr<RunLock> claim_run_directory(const RunConfig& config, Communicator& world) {
  const std::string logs = config.run_dir + "/logs";
  std::unique_ptr<RunLock> lock;
  agree(world, [&] {
    if (world.rank() != 0) return;
    check_run_directory(config.run_dir);
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

StartOptions start_options(const TrainOptions& options, SignOfLife* sign) {
  StartOptions start{.resume = options.resume,
                     .init_from = options.init_from,
                     .deadline = {},
                     .local_rank = options.local_rank,
                     .sign = sign};
  if (options.resume != "auto" && options.resume != "never" && !options.init_from.empty()) {
    fail(ExitCode::kUsage, "--resume {} and --init-from {}: a run begins from one of them", options.resume,
         options.init_from);
  }
  if (options.exit_after_minutes > 0) {
    start.deadline = moment_after(options.process_start, 60 * options.exit_after_minutes);
  }
  return start;
}

// A start that is refused before it claims its directory was no start of a run. Collective.
void withdraw(SignOfLife* sign, Communicator& world) {
  if (sign != nullptr && world.rank() != 0) sign->withdraw();
  world.barrier();
  if (sign != nullptr && world.rank() == 0) sign->withdraw();
}

int train_in_directory(const TrainOptions& options, TrainStart& begun, RunConfig config,
                       const StartOptions& start, Communicator& world, PhaseClock& clock) {
  if (config.threads == 0) config.threads = threads_per_worker(options.local_workers);
  begun.lock = claim_run_directory(config, world);
  const Watchdog watchdog(config.watchdog, config.run_dir + "/watchdog", world, *clock.whereabouts());
  return static_cast<int>(train(config, world, clock, start));
}

// Begins the account of this worker; what is wrong with the configuration is left to run_train to say.
TrainStart begin_train(const TrainOptions& options, const LaunchPlace& place) {
  TrainStart start;
  try {
    start.read = read_run_config(options.config.file, options.config.overrides);
  } catch (const std::exception&) {
    start.problem = std::current_exception();
    return start;
  }
  try {
    auto [config, findings] = start.read;
    check_run(config, {.world = place.size, .use = RunSetting::Use::kTraining}, findings);
    findings.throw_if_any();
    check_run_directory(config.run_dir);
    start.sign =
        std::make_unique<SignOfLife>(config.run_dir, early_launch_info(config, place.size),
                                     SignOfLife::Worker{place.rank, place.job}, options.process_start);
  } catch (const std::exception&) {
  }
  return start;
}

int run_train(const TrainOptions& options, TrainStart& begun, Communicator& world) {
  const Tracked tracked(world);
  PhaseClock clock(options.process_start);
  clock.report_to(*tracked.whereabouts);
  catch_stop_signals();
  SignOfLife* const sign = begun.sign.get();
  if (const std::string text = alone_by_mistake(world.size()); !text.empty()) log_warning("{}", text);
  const std::string launch = broadcast_text(world, sign != nullptr ? sign->launch() : "");
  if (sign != nullptr) sign->join(launch, world.rank(), world.size());
  StartOptions start;
  RunConfig config;
  try {
    agree(world, [&] { start = start_options(options, sign); });
    config = agree_on_config(begun, world);
  } catch (const AgreedError&) {
    withdraw(sign, world);
    throw;
  }
  try {
    return train_in_directory(options, begun, std::move(config), start, world, clock);
  } catch (const Error& e) {
    if (sign != nullptr) sign->end_by_error(e.what(), e.code());
    throw;
  }
}

}  // namespace

void add_train(CLI::App& app, ChosenCommand& chosen) {
  CLI::App* command =
      app.add_subcommand("train", "Train a model; start it under mpirun for more than one worker");
  auto options = std::make_shared<TrainOptions>();
  add_config_arguments(*command, options->config);
  command
      ->add_option("--resume", options->resume,
                   "auto: from the checkpoint that the run made last or went back to; never; or the PATH of "
                   "a checkpoint")
      ->capture_default_str()
      ->type_name("auto|never|PATH");
  command
      ->add_option(
          "--init-from", options->init_from,
          "If nothing is resumed: weights from this checkpoint, run or Hugging Face folder, step 0; a "
          "dense FFN becomes every expert of its layer")
      ->type_name("PATH");
  command
      ->add_option("--exit-after-minutes", options->exit_after_minutes,
                   "Finish the step, save and exit with code 75 after so long; 0: no limit")
      ->capture_default_str()
      ->check(at_least(0));
  auto start = std::make_shared<TrainStart>();
  command->callback([options, start, &chosen] {
    chosen.needs_world = true;
    chosen.begin = [options, start](const LaunchPlace& place) {
      options->process_start = process_start_time();
      *start = begin_train(*options, place);
    };
    chosen.run = [options, start](Job& job) {
      options->local_workers = job.local_workers;
      options->local_rank = job.local_rank;
      return run_train(*options, *start, job.world);
    };
  });
}

}  // namespace jevons
