// What the emulated GPU sees of row kernels. Their results are tested by tests/kernels, which the executables
// test_kernels_emulated and test_kernels_checked run on it.
#include "kernels/core/error.h"
#include "kernels/elementwise.h"
#include "kernels/norm.h"
#include "tests/cuda/gpu_bench.h"

namespace jevons::test {
namespace {

// Whether a finding of the work done so far has these words; forgets all of them.
bool found(const GpuBench& gpu, std::string_view words) {
  gpu.stream.synchronise();
  for (const std::string& finding : emulation::take_findings()) {
    if (finding.find(words) != std::string::npos) return true;
  }
  return false;
}

}  // namespace

// Accesses of 16 bytes are not those that the compiler reports one by one, so that the checker sees them is
// shown for both: rows of 64 go in packs, rows of 63 by element.
TEST_CASE("the checker sees the accesses of row kernels, packs and single elements") {
  if (!emulation::checking()) return;
  for (const std::int64_t n : {64, 63}) {
    INFO(n << " elements");
    GpuBench gpu;
    const Tensor x = gpu.zeros({n}, DType::kF32), y = gpu.zeros({n}, DType::kF32);
    add(gpu.ctx, x, x, y);
    CHECK_FALSE(found(gpu, ""));

    add(gpu.ctx, x, gpu.undefined({n}, DType::kF32), y);
    CHECK(found(gpu, "uninitialised read"));

    Tensor longer = x;
    longer.shape = {2 * n};
    fill_zero(gpu.ctx, longer);
    CHECK(found(gpu, "out of bounds"));

    Stream other(Device::kCuda);
    Context beside = gpu.ctx;
    beside.stream = &other;
    fill_zero(gpu.ctx, x);
    fill_zero(beside, x);
    other.synchronise();
    CHECK(found(gpu, "race"));
  }
}

TEST_CASE("row kernels on a GPU need a stream, and take empty tensors") {
  GpuBench gpu;
  const Tensor x = gpu.zeros({0, 64}, DType::kF32), w = gpu.zeros({64}, DType::kF32);
  const Tensor rstd = gpu.zeros({0}, DType::kF32);
  rmsnorm_forward(gpu.ctx, x, w, 1e-5f, x, rstd);
  CHECK(count_nonfinite(gpu.ctx, x) == 0);
  Context bare = gpu.ctx;
  bare.stream = nullptr;
  CHECK_THROWS_WITH(scale_inplace(bare, 2, w), Catch::Matchers::ContainsSubstring("need a stream"));
}

}  // namespace jevons::test
