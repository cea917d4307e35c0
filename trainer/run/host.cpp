#include "trainer/run/host.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <fstream>
#include <sstream>
#include <thread>

#include "jevons_git_id.h"

namespace jevons {

int usable_cores() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  return std::max(1, CPU_COUNT(&set));
}

int threads_per_worker(int local_workers) {
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  return std::clamp(cores / local_workers, 1, usable_cores());
}

std::chrono::steady_clock::time_point process_start_time() {
  const auto now = std::chrono::steady_clock::now();
  std::ifstream file("/proc/self/stat");
  std::string line;
  std::getline(file, line);
  const std::size_t name_end = line.rfind(')');  // the second field, in parentheses, may hold spaces
  if (name_end == std::string::npos) return now;
  std::istringstream fields(line.substr(name_end + 1));
  std::string skipped;
  for (int field = 3; field < 22; ++field) fields >> skipped;
  double start_ticks = 0;  // field 22: since boot
  if (!(fields >> start_ticks)) return now;
  timespec boot{};
  if (clock_gettime(CLOCK_BOOTTIME, &boot) != 0) return now;
  const double uptime = static_cast<double>(boot.tv_sec) + 1e-9 * static_cast<double>(boot.tv_nsec);
  const double age = std::max(0.0, uptime - start_ticks / static_cast<double>(sysconf(_SC_CLK_TCK)));
  return now -
         std::chrono::duration_cast<std::chrono::steady_clock::duration>(std::chrono::duration<double>(age));
}

std::string git_id() {
  return JEVONS_GIT_ID;
}

}  // namespace jevons
