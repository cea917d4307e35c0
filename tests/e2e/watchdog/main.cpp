// A job for the watchdog's tests: one rank leaves a collective out. usage: watchdog_ranks DIRECTORY RANK
#include <cstdlib>

#include "kernels/core/log.h"
#include "parallel/mpi/mpi_session.h"
#include "trainer/watchdog.h"

int main(int argc, char** argv) {
  using namespace jevons;
  if (argc != 3) return 2;
  MpiSession session;
  Communicator& world = session.world();
  log_setup(world.rank(), world.size(), LogLevel::kInfo);
  Whereabouts whereabouts;
  world.set_whereabouts(&whereabouts);
  const WatchdogConfig config{.stall_seconds = 2, .long_stall_seconds = 2, .step_seconds = 0};
  const Watchdog watchdog(config, argv[1], world, whereabouts);
  double sum = world.rank();
  if (world.rank() != std::atoi(argv[2])) world.barrier();
  world.all_reduce({&sum, {1}, DType::kF64}).wait();
  world.barrier();
  world.set_whereabouts(nullptr);
  return 0;
}
