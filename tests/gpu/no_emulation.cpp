// The controls of the emulated GPU (tests/cuda_emulation/control.h) in programs that run on a real one: there
// is nothing to set and nothing that was found.
#include "tests/cuda_emulation/control.h"

namespace emulation {

const Settings& settings() {
  static const Settings none;
  return none;
}
void configure(const Settings&) {}
bool emulated() {
  return false;
}
bool checking() {
  return false;
}
std::int64_t device_allocations() {
  return 0;
}
std::int64_t host_waits() {
  return 0;
}
int live_streams() {
  return 0;
}
std::int64_t misaligned_messages() {
  return 0;
}
std::vector<std::string> take_findings() {
  return {};
}

}  // namespace emulation
