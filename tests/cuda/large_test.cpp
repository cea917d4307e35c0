// Tensors whose elements and bytes have numbers above 2^31 and 2^32. Of the memory behind them only the rows
// that are used exist.
#include "kernels/embedding.h"
#include "kernels/moe/permute.h"
#include "tests/cuda/gpu_bench.h"

namespace jevons::test {
namespace {

constexpr std::int64_t kCols = 64, kRows = (std::int64_t{1} << 26) + 8;  // 2^32 + 512 elements of bf16
// First elements 0, 2^31, 2^32 and beyond.
constexpr std::int64_t kUsed[] = {0, std::int64_t{1} << 25, std::int64_t{1} << 26, kRows - 1};

// A bf16 matrix with numbers in the rows kUsed; the same rows, packed, on the host.
struct Large {
  GpuBench gpu;
  KernelBench cpu;
  Buffer memory{Device::kCuda, static_cast<std::size_t>(kRows* kCols) * 2, Contents::kUndefined};
  Tensor matrix = memory.view(0, {kRows, kCols}, DType::kBF16);
  Tensor packed = cpu.random({std::ssize(kUsed), kCols}, DType::kBF16);

  Large() {
    for (std::int64_t i = 0; i < std::ssize(kUsed); ++i)
      copy_and_wait(&gpu.stream, matrix.slice(kUsed[i], kUsed[i] + 1), packed.slice(i, i + 1));
  }
  Tensor numbers(Shape shape) {
    return gpu.upload(cpu.filled(shape, DType::kI32, [](std::int64_t i) {
      return static_cast<double>(kUsed[static_cast<std::size_t>(i)]);
    }));
  }
};

}  // namespace

TEST_CASE("rows far beyond 2^31 elements are gathered, summed and looked up", "[emulation]") {
  if (emulation::checking()) return;  // its shadow of so much memory does not fit
  const EmulationScope scope(emulation::Settings{.fill = false});
  Large large;
  const Tensor gathered = large.gpu.undefined(large.packed.shape, DType::kBF16);
  gather_rows(large.gpu.ctx, large.matrix, large.numbers({std::ssize(kUsed)}), gathered);
  CHECK(same_bits(large.gpu.download(gathered), large.packed));

  const Tensor looked_up = large.gpu.undefined(large.packed.shape, DType::kBF16);
  embedding_forward(large.gpu.ctx, large.numbers({std::ssize(kUsed)}), large.matrix, 0, looked_up);
  CHECK(same_bits(large.gpu.download(looked_up), large.packed));

  const Tensor sums = large.gpu.undefined({2, kCols}, DType::kBF16),
               on_host = large.cpu.poisoned({2, kCols}, DType::kBF16);
  sum_rows(large.gpu.ctx, large.matrix, large.numbers({2, 2}), sums);
  const Tensor in_order =
      large.cpu.filled({2, 2}, DType::kI32, [](std::int64_t i) { return static_cast<double>(i); });
  sum_rows(large.cpu.ctx, large.packed, in_order, on_host);
  CHECK(same_bits(large.gpu.download(sums), on_host));
}

}  // namespace jevons::test
