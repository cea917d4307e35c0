// Peaks by the names that NVIDIA's driver gives.
#include "trainer/cost/device_peaks.h"

#include "tests/support/catch.h"

namespace jevons {

TEST_CASE("peaks: variants of a GPU are told apart, and a stranger has none") {
  CHECK(known_peak_tflops("NVIDIA H100 80GB HBM3") == 989);
  CHECK(known_peak_tflops("NVIDIA H100 PCIe") == 756);
  CHECK(known_peak_tflops("NVIDIA H100 NVL") == 835);
  CHECK(known_peak_tflops("NVIDIA H200") == 989);
  CHECK(known_peak_tflops("NVIDIA H200 NVL") == 835);
  CHECK(known_peak_tflops("NVIDIA A100-SXM4-80GB") == 312);
  CHECK(known_peak_tflops("NVIDIA GB200") == 2500);
  CHECK(known_peak_tflops("NVIDIA B200") == 2250);
  CHECK(known_peak_tflops("Tesla V100-SXM2-32GB") == 0);
  CHECK(known_peak_tflops("cpu") == 0);
}

}  // namespace jevons
