// jevons train: one worker of a run.
#include <algorithm>
#include <filesystem>
#include <thread>

#include "kernels/core/device_runtime.h"
#include "kernels/core/error.h"
#include "kernels/core/log.h"
#include "parallel/agree.h"
#include "trainer/commands/commands.h"
#include "trainer/host.h"
#include "trainer/signals.h"
#include "trainer/trainer.h"

namespace jevons {
namespace {

// Workers of one node share its cores; a binding that gives a worker fewer is respected.
int threads_per_worker(int local_workers) {
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  return std::clamp(cores / local_workers, 1, usable_cores());
}

RunConfig read_config(const ConfigArguments& arguments, int world_size) {
  RunConfig config = load_run_config(arguments.file, arguments.overrides);
  validate_for_world(config, world_size);
  validate_for_training(config);
  if (config.device == DeviceChoice::kCuda) {
    const cuda::Availability gpus = cuda::availability();
    fail(ExitCode::kUsage, "device: cuda: {}; use cpu or auto",
         gpus.devices == 0 ? gpus.reason : "training on GPUs is not complete in this version");
  }
  return config;
}

// Every rank's own log file; rank 0 makes the directory first.
void open_logs(const RunConfig& config, Communicator& world) {
  const std::string directory = config.run_dir + "/logs";
  agree(world, [&] {
    if (world.rank() != 0) return;
    std::error_code error;
    std::filesystem::create_directories(directory, error);
    if (error) fail(ExitCode::kUsage, "{}: cannot make the log directory: {}", directory, error.message());
  });
  log_to_file(fmt::format("{}/rank-{}.log", directory, world.rank()));
}

}  // namespace

int run_train(const TrainOptions& options, Communicator& world) {
  PhaseClock clock(options.process_start);
  catch_stop_signals();
  RunConfig config;
  agree(world, [&] { config = read_config(options.config, world.size()); });
  if (config.threads == 0) config.threads = threads_per_worker(options.local_workers);
  open_logs(config, world);
  const std::string yaml = dump_run_config(options.config.file, options.config.overrides);
  Trainer trainer(config, yaml, world, clock, options.resume);
  return static_cast<int>(trainer.run());
}

}  // namespace jevons
