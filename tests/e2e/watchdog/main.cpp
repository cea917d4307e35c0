// A job for the watchdog's tests. usage: watchdog_ranks DIRECTORY WHAT
//   skip   rank 1 leaves a collective out
//   mute   the same, and what a rank writes to its log hangs
//   stale  all ranks get on, beside the reports of an earlier launch
//   save   all ranks spend more than the limit of a stall in a save, and end well
//   step   all ranks get on, but their second step never ends
#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <string_view>
#include <thread>
#include <vector>

#include "kernels/core/error.h"
#include "kernels/core/log.h"
#include "parallel/mpi/mpi_session.h"
#include "trainer/run/watchdog.h"

namespace jevons {
namespace {

void rest(int milliseconds) {
  std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
}

void skip(Communicator& world) {
  double sum = world.rank();
  if (world.rank() != 1) world.barrier();
  world.all_reduce({&sum, {1}, DType::kF64}).wait();
}

// From here on a line of the log waits for ever: its file is a full pipe that nobody reads.
void mute_log(const std::string& path) {
  ENSURE(mkfifo(path.c_str(), 0600) == 0, "{}: no pipe", path);
  const int pipe = open(path.c_str(), O_RDWR | O_NONBLOCK);
  log_to_file(path);
  const std::vector<char> much(1 << 12);
  while (write(pipe, much.data(), much.size()) > 0) continue;
}

// As a file system that shows removed files for a while.
void bring_back_report(const std::string& directory) {
  std::filesystem::create_directories(directory);
  std::ofstream(directory + "/rank-00000.json") << "{}";
}

void save(Whereabouts& whereabouts) {
  PhaseClock clock;
  clock.report_to(whereabouts);
  const PhaseScope phase(&clock, Phase::kCheckpoint);
  rest(4000);
}

void work_for_ever(Whereabouts& whereabouts) {
  for (std::int64_t i = 0;; ++i) {
    whereabouts.micro_batch(i);
    rest(50);
  }
}

int run(const std::string& directory, std::string_view what) {
  MpiSession session;
  Communicator& world = session.world();
  log_setup(world.rank(), world.size(), LogLevel::kInfo);
  Whereabouts whereabouts;
  world.set_whereabouts(&whereabouts);
  if (what == "mute") mute_log(fmt::format("{}.log-{}", directory, world.rank()));
  {
    const WatchdogConfig config{.stall_seconds = 2, .long_stall_seconds = 60, .step_seconds = 2};
    const Watchdog watchdog(config, directory, world, whereabouts);
    // Past the first step, which has the long limit.
    whereabouts.begin_step(1), whereabouts.end_step();
    whereabouts.begin_step(2);
    if (what == "step") work_for_ever(whereabouts);
    whereabouts.end_step();
    PhaseClock clock;
    clock.report_to(whereabouts);
    const PhaseScope phase(&clock, Phase::kCompute);
    if (what == "skip" || what == "mute") skip(world);
    if (what == "stale") {
      bring_back_report(directory);
      rest(1500);
    }
    if (what == "save") save(whereabouts);
    world.barrier();
  }
  world.set_whereabouts(nullptr);
  return 0;
}

}  // namespace
}  // namespace jevons

int main(int argc, char** argv) {
  return argc == 3 ? jevons::run(argv[1], argv[2]) : 2;
}
