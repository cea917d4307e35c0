#include "kernels/moe/permute.h"

#include "kernels/core/error.h"
#include "tests/support/kernel_test.h"

namespace jevons {
namespace {

using test::KernelBench;
using test::max_error;
using test::same_bits;
using test::to_doubles;
using test::tolerance;

constexpr DType kFloats[] = {DType::kF32, DType::kBF16, DType::kF64};
constexpr std::int64_t kCols[] = {1, 3, 15, 16, 17, 100, 257, 2048};

TEST_CASE("gather_rows copies rows of any dtype", "[permute]") {
  KernelBench bench(2);
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF64, DType::kI32, DType::kI64, DType::kU8}) {
    for (const std::int64_t cols : kCols) {
      for (const std::int64_t rows : {0, 1, 7, 90}) {
        const Tensor x = bench.integers({5, cols}, 0, 100, dtype), index = bench.integers({rows}, 0, 5);
        const Tensor y = bench.poisoned({rows, cols}, dtype);
        bench.run(gather_rows, x, index, y);
        for (std::int64_t r = 0; r < rows; ++r) {
          const std::int64_t from = index.ptr<std::int32_t>()[r];
          REQUIRE(same_bits(y.slice(r, r + 1), x.slice(from, from + 1)));
        }
      }
    }
  }
}

TEST_CASE("sum_rows adds in slot order, skips -1, gives 0 for no slot", "[permute]") {
  KernelBench bench(2);
  for (const DType dtype : kFloats) {
    for (const std::int64_t cols : kCols) {
      for (const std::int64_t slots : {0, 1, 2, 3, 8, 9, 20}) {
        const std::int64_t rows = 12;
        const Tensor x = bench.random({6, cols}, dtype), index = bench.integers({rows, slots}, -1, 6);
        for (std::int64_t k = 0; k < slots; ++k) index.ptr<std::int32_t>()[3 * slots + k] = -1;
        const Tensor y = bench.poisoned({rows, cols}, dtype), again = bench.poisoned({rows, cols}, dtype);
        bench.run(sum_rows, x, index, y);
        // The order and the accumulator are part of the contract, so the sum in them is exact.
        const auto in = to_doubles(x);
        const Tensor want = bench.filled({rows, cols}, dtype, [&](std::int64_t at) {
          double wide = 0;
          float narrow = 0;
          for (std::int64_t k = 0; k < slots; ++k) {
            const std::int32_t from = index.ptr<std::int32_t>()[at / cols * slots + k];
            if (from < 0) continue;
            const double v = in[static_cast<std::size_t>(from * cols + at % cols)];
            wide += v, narrow += static_cast<float>(v);
          }
          return dtype == DType::kF64 ? wide : narrow;
        });
        CHECK(same_bits(y, want));
        bench.ctx.threads = 1;
        bench.run(sum_rows, x, index, again);
        bench.ctx.threads = 2;
        CHECK(same_bits(y, again));
      }
    }
  }
}

TEST_CASE("gather_rows and sum_rows are adjoint", "[permute]") {
  KernelBench bench(2);
  // Token t owns expert rows 2t and 2t + 1 in a shuffled order.
  const std::int64_t tokens = 50, cols = 33;
  const Tensor slots = bench.filled({tokens, 2}, DType::kI32, [](std::int64_t i) { return (i * 37) % 100; });
  const Tensor owner = bench.poisoned({2 * tokens}, DType::kI32);
  for (std::int64_t i = 0; i < 2 * tokens; ++i)
    owner.ptr<std::int32_t>()[slots.ptr<std::int32_t>()[i]] = i / 2;
  const Tensor x = bench.random({tokens, cols}, DType::kF64),
               y = bench.random({2 * tokens, cols}, DType::kF64);
  const Tensor gathered = bench.poisoned(y.shape, DType::kF64), summed = bench.poisoned(x.shape, DType::kF64);
  bench.run(gather_rows, x, owner, gathered);
  bench.run(sum_rows, y, slots, summed);
  const auto dot = [](const Tensor& a, const Tensor& b) {
    double sum = 0;
    for (std::int64_t i = 0; i < a.numel(); ++i) sum += a.ptr<double>()[i] * b.ptr<double>()[i];
    return sum;
  };
  CHECK(std::abs(dot(gathered, y) - dot(x, summed)) <= 1e-10);
}

TEST_CASE("Row movement checks its tensors and runs on the meta device", "[permute]") {
  KernelBench bench;
  const Tensor x = bench.random({4, 6}, DType::kF32), index = bench.integers({3}, 0, 4);
  CHECK_THROWS_WITH(gather_rows(bench.ctx, x, index, bench.poisoned({4, 6}, DType::kF32)),
                    Catch::Matchers::ContainsSubstring("gather_rows: index is i32 (3)"));
  CHECK_THROWS_AS(gather_rows(bench.ctx, x, index, bench.poisoned({3, 5}, DType::kF32)), Error);
  CHECK_THROWS_AS(sum_rows(bench.ctx, x, index, x), Error);
  KernelBench meta(1, Device::kMeta);
  const Tensor big = meta.random({1 << 20, 4096}, DType::kBF16);
  gather_rows(meta.ctx, big, meta.integers({1 << 20}, 0, 2), big);
  CHECK(meta.meter[WorkKind::kRow].bytes == 2.0 * static_cast<double>(big.bytes()) + 4.0 * (1 << 20));
  sum_rows(meta.ctx, big, meta.integers({1 << 20, 2}, 0, 2), big);
  CHECK(meta.meter[WorkKind::kRow].calls == 2);
}

}  // namespace
}  // namespace jevons
