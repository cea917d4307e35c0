// A library with NVML's functions and two GPUs, for tests: each call to the energy counter of GPU i finds
// (i + 1) * 1000 J more than the call before.
//   FAKE_NVML_NO_COUNTER in the environment: the counter is not supported, as on GPUs before Volta.
#include <array>
#include <cstdlib>

namespace {
constexpr int kSuccess = 0, kUninitialized = 1, kInvalidArgument = 2, kNotSupported = 3;
bool initialised = false;
std::array<unsigned long long, 2> millijoules = {5'000'000, 7'000'000};
}  // namespace

extern "C" {
int nvmlInit_v2() {
  initialised = true;
  return kSuccess;
}
int nvmlShutdown() {
  initialised = false;
  return kSuccess;
}
int nvmlDeviceGetCount_v2(unsigned* count) {
  *count = static_cast<unsigned>(millijoules.size());
  return initialised ? kSuccess : kUninitialized;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void** device) {
  if (index >= millijoules.size()) return kInvalidArgument;
  *device = &millijoules[index];
  return kSuccess;
}
int nvmlDeviceGetTotalEnergyConsumption(void* device, unsigned long long* out) {
  if (std::getenv("FAKE_NVML_NO_COUNTER") != nullptr) return kNotSupported;
  auto* counter = static_cast<unsigned long long*>(device);
  *counter += 1'000'000 * static_cast<unsigned long long>(counter - millijoules.data() + 1);
  *out = *counter;
  return initialised ? kSuccess : kUninitialized;
}
}
