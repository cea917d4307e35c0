// The parity tests on a real GPU: the tests of tests/kernels with their ops on the device, and those of
// tests/cuda that need no emulation. Skipped (77) where there is no GPU. Arguments are Catch's.
#include <fmt/core.h>

#include "kernels/core/device.h"
#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_session.hpp>
#else
#define CATCH_CONFIG_RUNNER
#include <catch2/catch.hpp>
#endif

int main(int argc, char** argv) {
  const jevons::device::Availability gpus = jevons::device::availability();
  if (gpus.devices == 0) {
    fmt::print("skipped: {}\n", gpus.reason);
    return 77;
  }
  jevons::device::select(0);
  setenv("JEVONS_TEST_DEVICE", "cuda", 1);
  return Catch::Session().run(argc, argv);
}
