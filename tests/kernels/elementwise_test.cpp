#include "kernels/elementwise.h"

#include "kernels/core/error.h"
#include "kernels/row/block.h"
#include "tests/support/kernel_test.h"

namespace jevons {
namespace {

using test::KernelBench;
using test::max_error;
using test::same_bits;
using test::to_doubles;
using test::tolerance;

constexpr DType kFloats[] = {DType::kF32, DType::kBF16, DType::kF64};
// Around the vector widths, and more than one block.
const std::vector<std::int64_t> kSizes = {
    0, 1, 3, 15, 16, 17, 100, 257, kFlatBlock, kFlatBlock + 1, 3 * kFlatBlock + 7};

template <class F>
std::vector<double> zip(const std::vector<double>& a, const std::vector<double>& b, F f) {
  std::vector<double> out(a.size());
  for (std::size_t i = 0; i < a.size(); ++i) out[i] = f(a[i], b[i]);
  return out;
}

TEST_CASE("fill_zero and copy move any dtype", "[elementwise]") {
  KernelBench bench(2);
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF64, DType::kI32, DType::kI64, DType::kU8}) {
    for (const std::int64_t n : kSizes) {
      const Tensor x = bench.integers({n}, 0, 200, dtype);
      const Tensor y = bench.poisoned({n}, dtype);
      bench.run(copy, x, y);
      CHECK(same_bits(x, y));
      bench.run(fill_zero, y);
      CHECK(to_doubles(y) == std::vector<double>(static_cast<std::size_t>(n), 0.0));
    }
  }
}

TEST_CASE("cast rounds once, to nearest even", "[elementwise]") {
  KernelBench bench(2);
  for (const DType from : kFloats) {
    for (const DType to : kFloats) {
      const Tensor x = bench.random({257}, from);
      const Tensor y = bench.poisoned({257}, to);
      bench.run(cast, x, y);
      const Tensor want = bench.filled({257}, to, [v = to_doubles(x)](std::int64_t i) { return v[i]; });
      CHECK(same_bits(y, want));
    }
  }
  // 1 + 2^-8 is half way between two bf16 numbers, 1 + 3 * 2^-8 too: both go to the even one. Specials stay.
  const double inf = std::numeric_limits<double>::infinity(), nan = std::nan("");
  const double in[] = {1 + 0x1p-8, 1 + 3 * 0x1p-8, inf, -inf, nan, -0.0, 3.4e38};
  const double out[] = {1, 1 + 2 * 0x1p-7, inf, -inf, nan, -0.0, inf};
  const Tensor x = bench.filled({7}, DType::kF32, [&](std::int64_t i) { return in[i]; });
  const Tensor y = bench.poisoned({7}, DType::kBF16);
  bench.run(cast, x, y);
  for (std::size_t i = 0; i < 7; ++i) {
    const double got = to_doubles(y)[i];
    CHECK(
        (std::isnan(out[i]) ? std::isnan(got) : got == out[i] && std::signbit(got) == std::signbit(out[i])));
  }
}

TEST_CASE("add, also in place", "[elementwise]") {
  KernelBench bench(2);
  for (const DType dtype : kFloats) {
    for (const std::int64_t n : kSizes) {
      const Tensor a = bench.random({n}, dtype), b = bench.random({n}, dtype), y = bench.poisoned({n}, dtype);
      bench.run(add, a, b, y);
      CHECK(max_error(y, zip(to_doubles(a), to_doubles(b), std::plus<>())) <= tolerance(dtype));
      const Tensor into_a = bench.clone(a), into_b = bench.clone(b), twice = bench.clone(a);
      bench.run(add, into_a, b, into_a);
      bench.run(add, a, into_b, into_b);
      CHECK(same_bits(into_a, y));
      CHECK(same_bits(into_b, y));
      bench.run(add, twice, twice, twice);
      CHECK(max_error(twice, zip(to_doubles(a), to_doubles(a), std::plus<>())) == 0);
    }
  }
}

TEST_CASE("add_scaled and scale_inplace", "[elementwise]") {
  KernelBench bench(2);
  for (const DType from : kFloats) {
    for (const DType to : kFloats) {
      for (const std::int64_t n : kSizes) {
        const Tensor x = bench.random({n}, from), y = bench.random({n}, to);
        const auto want = zip(to_doubles(x), to_doubles(y), [](double a, double b) { return b + 0.5 * a; });
        bench.run(add_scaled, 0.5, x, y);
        CHECK(max_error(y, want) <= tolerance(to));
        const auto scaled = zip(to_doubles(y), to_doubles(y), [](double a, double) { return -4 * a; });
        bench.run(scale_inplace, -4, y);
        CHECK(max_error(y, scaled) == 0);
      }
    }
  }
}

TEST_CASE("add_sum_of_squares adds in double, the same bits on any number of threads", "[elementwise]") {
  KernelBench bench(1);
  for (const DType dtype : kFloats) {
    for (const std::int64_t n : kSizes) {
      const Tensor x = bench.random({n}, dtype);
      double want = 7;
      for (const double v : to_doubles(x)) want += v * v;
      const auto sum_with = [&](int threads) {
        bench.ctx.threads = threads;
        const Tensor y = bench.filled({1}, DType::kF64, [](std::int64_t) { return 7.0; });
        bench.run(add_sum_of_squares, x, y);
        return to_doubles(y)[0];
      };
      const double one = sum_with(1);
      CHECK(std::abs(one - want) <= 1e-13 * want);
      for (const int threads : {2, 3}) CHECK(sum_with(threads) == one);
      CHECK(bench.ctx.work->used_bytes() == 0);
    }
  }
}

TEST_CASE("count_nonfinite", "[elementwise]") {
  const double bad[] = {std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity(),
                        std::nan("")};
  KernelBench bench(2);
  for (const DType dtype : kFloats) {
    for (const std::int64_t n : kSizes) {
      std::int64_t want = 0;
      const Tensor x = bench.filled({n}, dtype, [&](std::int64_t i) {
        if (i % 7 != 3) return 1e30;
        ++want;
        return bad[i % 3];
      });
      CHECK(bench.run(count_nonfinite, x) == want);
    }
  }
}

TEST_CASE("Elementwise ops check their tensors and count their bytes", "[elementwise]") {
  KernelBench bench;
  const Tensor a = bench.random({4, 3}, DType::kF32), b = bench.random({3, 4}, DType::kF32);
  const Tensor half = bench.random({4, 3}, DType::kBF16), ids = bench.integers({4, 3}, 0, 5);
  CHECK_THROWS_AS(add(bench.ctx, a, b, a), Error);
  CHECK_THROWS_AS(add(bench.ctx, a, a, half), Error);
  CHECK_THROWS_AS(copy(bench.ctx, a, half), Error);
  CHECK_THROWS_AS(cast(bench.ctx, ids, a), Error);
  CHECK_THROWS_WITH(copy(bench.ctx, a, half), Catch::Matchers::ContainsSubstring("copy: y is bf16 (4, 3)"));
  bench.meter.reset();
  bench.run(add, a, a, a);
  CHECK(bench.meter[WorkKind::kRow].bytes == 3 * 12 * 4);
  bench.run(add_scaled, 1, half, a);
  CHECK(bench.meter[WorkKind::kRow].bytes == 3 * 12 * 4 + 2 * 12 * 4 + 12 * 2);
  CHECK(bench.meter[WorkKind::kRow].calls == 2);
}

TEST_CASE("Elementwise ops on the meta device only count", "[elementwise]") {
  KernelBench bench(1, Device::kMeta);
  const Tensor x = bench.random({1 << 20, 1 << 10}, DType::kBF16),
               y = bench.random({1 << 20, 1 << 10}, DType::kF32);
  bench.run(fill_zero, x);
  bench.run(copy, x, x);
  bench.run(cast, x, y);
  bench.run(add, x, x, x);
  bench.run(add_scaled, 2, x, y);
  bench.run(scale_inplace, 2, y);
  bench.run(add_sum_of_squares, x, bench.poisoned({1}, DType::kF64));
  CHECK(bench.run(count_nonfinite, x) == 0);
  CHECK(bench.meter[WorkKind::kRow].calls == 9);
  CHECK(bench.ctx.work->peak_bytes() > 0);
}

TEST_CASE("Weighted sums, normalised tensors and maxima of columns", "[elementwise]") {
  KernelBench bench(2);
  for (const std::int64_t n : {0, 1, 17, 20000}) {
    for (const auto& [x_type, z_type] : {std::pair{DType::kF32, DType::kF32},
                                         {DType::kF32, DType::kBF16},
                                         {DType::kBF16, DType::kF32},
                                         {DType::kBF16, DType::kBF16},
                                         {DType::kF64, DType::kF64}}) {
      const DType wide = accumulator_of(x_type);
      const Tensor x = bench.random({n}, x_type), y = bench.random({n}, wide),
                   z = bench.poisoned({n}, z_type);
      std::vector<double> want = to_doubles(y);
      const std::vector<double> a = to_doubles(x);
      for (std::size_t i = 0; i < want.size(); ++i) want[i] = 1.5 * a[i] - 0.25 * want[i];
      bench.run(add_weighted, 1.5, x, -0.25, y, z);
      CHECK(max_error(z, want) <= tolerance(z_type));
    }
    for (const DType type : {DType::kF32, DType::kBF16, DType::kF64}) {
      const Tensor x = bench.random({n}, accumulator_of(type)), y = bench.poisoned({n}, type),
                   squares = bench.filled({1}, DType::kF64, [](std::int64_t) { return 16; });
      std::vector<double> want = to_doubles(x);
      for (double& value : want) value /= 4 + 0.5;
      bench.run(normalise, x, squares, 0.5, y);
      CHECK(max_error(y, want) <= tolerance(type));
    }
  }
  for (const std::int64_t rows : {0, 1, 300}) {
    const std::int64_t cols = 6;
    const Tensor x = bench.random({rows, cols}, DType::kF32), y = bench.random({cols}, DType::kF32);
    std::vector<double> want = to_doubles(y);
    const std::vector<double> values = to_doubles(x);
    for (std::size_t i = 0; i < values.size(); ++i) want[i % cols] = std::max(want[i % cols], values[i]);
    bench.run(take_column_max, x, y);
    CHECK(to_doubles(y) == want);
  }
}

}  // namespace
}  // namespace jevons
