#include "trainer/cost/device_peaks.h"

#include <array>
#include <utility>

namespace jevons {

double known_peak_tflops(const std::string& device_type) {
  // Datasheets "NVIDIA A100", "H100", "H200", "GB200 NVL72" and "HGX B200" (half of what they state
  // with sparsity); the first name that fits.
  constexpr std::array<std::pair<const char*, double>, 8> kPeaks = {{{"H100 PCIe", 756},
                                                                     {"H100 NVL", 835},
                                                                     {"H100", 989},
                                                                     {"H200 NVL", 835},
                                                                     {"H200", 989},
                                                                     {"A100", 312},
                                                                     {"GB200", 2500},
                                                                     {"B200", 2250}}};
  for (const auto& [name, tflops] : kPeaks) {
    if (device_type.find(name) != std::string::npos) return tflops;
  }
  return 0;
}

}  // namespace jevons
