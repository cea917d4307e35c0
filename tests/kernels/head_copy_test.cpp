#include "kernels/head_copy.h"

#include "kernels/core/error.h"
#include "tests/support/kernel_test.h"

namespace jevons {
namespace {

using test::KernelBench;
using test::same_bits;
using test::to_doubles;

constexpr DType kFloats[] = {DType::kF32, DType::kBF16, DType::kF64};

std::size_t place(const HeadView& view, std::int64_t row, std::int64_t head, std::int64_t i) {
  return static_cast<std::size_t>(row * view.base.cols() + view.first_col + head * view.pitch() + i);
}

struct Case {
  std::int64_t rows, heads, dim, apart;  // apart: columns between heads
};
const std::vector<Case> kCases = {{0, 3, 8, 0},   {1, 1, 1, 0},   {5, 2, 3, 1},    {7, 128, 8, 24},
                                  {40, 3, 64, 0}, {40, 5, 16, 8}, {300, 4, 33, 7}, {3, 9, 100, 2}};

// Heads from column 5 on, in a matrix of numbers.
HeadView heads_in(KernelBench& bench, const Case& c, std::int64_t heads, DType dtype) {
  const std::int64_t pitch = c.dim + c.apart;
  return {bench.random({c.rows, heads * pitch + 9}, dtype), 5, heads, c.dim, pitch};
}

void check_copy(KernelBench& bench, const Case& c, std::int64_t from_heads, DType dtype) {
  const HeadView x = heads_in(bench, c, from_heads, dtype), y = heads_in(bench, c, c.heads, dtype);
  std::vector<double> want = to_doubles(y.base);
  const std::vector<double> in = to_doubles(x.base);
  for (std::int64_t t = 0; t < c.rows; ++t) {
    for (std::int64_t h = 0; h < c.heads; ++h)
      for (std::int64_t i = 0; i < c.dim; ++i)
        want[place(y, t, h, i)] = in[place(x, t, from_heads == 1 ? 0 : h, i)];
  }
  bench.run(copy_heads, x, y);
  CHECK(to_doubles(y.base) == want);
}

// The order and the accumulator are part of the contract, so the sum in them is exact.
void check_sum(KernelBench& bench, const Case& c, DType dtype) {
  const HeadView x = heads_in(bench, c, c.heads, dtype), y = heads_in(bench, c, 1, dtype);
  const std::vector<double> in = to_doubles(x.base), before = to_doubles(y.base);
  const Tensor want = bench.filled(y.base.shape, dtype, [&](std::int64_t at) {
    const std::int64_t row = at / y.base.cols(), i = at % y.base.cols() - y.first_col;
    if (i < 0 || i >= c.dim) return before[static_cast<std::size_t>(at)];
    double wide = in[place(x, row, 0, i)];
    float narrow = static_cast<float>(wide);
    for (std::int64_t h = 1; h < c.heads; ++h)
      wide += in[place(x, row, h, i)], narrow += static_cast<float>(in[place(x, row, h, i)]);
    return dtype == DType::kF64 ? wide : static_cast<double>(narrow);
  });
  bench.run(sum_heads, x, y);
  CHECK(same_bits(y.base, want));
}

TEST_CASE("heads are copied, one for each or one for all, and nothing else is", "[heads]") {
  KernelBench bench(2);
  for (const DType dtype : kFloats) {
    for (const Case& c : kCases) {
      CAPTURE(c.rows, c.heads, c.dim, c.apart);
      check_copy(bench, c, c.heads, dtype);
      check_copy(bench, c, 1, dtype);
    }
  }
}

TEST_CASE("heads are summed in their order", "[heads]") {
  KernelBench bench(2);
  for (const DType dtype : kFloats) {
    for (const Case& c : kCases) {
      CAPTURE(c.rows, c.heads, c.dim, c.apart);
      check_sum(bench, c, dtype);
    }
  }
}

TEST_CASE("the sum of heads is the adjoint of one for all", "[heads][gradient]") {
  KernelBench bench;
  const Tensor x = bench.random({6, 7}, DType::kF64), dy = bench.random({6, 35}, DType::kF64);
  const Tensor y = bench.poisoned({6, 35}, DType::kF64), dx = bench.poisoned({6, 7}, DType::kF64);
  bench.run(copy_heads, {x, 0, 1, 7}, {y, 0, 5, 7});
  bench.run(sum_heads, {dy, 0, 5, 7}, {dx, 0, 1, 7});
  const auto dot = [](const Tensor& a, const Tensor& b) {
    double sum = 0;
    for (std::int64_t i = 0; i < a.numel(); ++i) sum += a.ptr<double>()[i] * b.ptr<double>()[i];
    return sum;
  };
  CHECK(dot(y, dy) == Approx(dot(x, dx)).epsilon(1e-13));
}

TEST_CASE("ops on heads check their tensors and run on the meta device", "[heads]") {
  KernelBench bench;
  const Tensor a = bench.random({4, 12}, DType::kF32), b = bench.random({4, 24}, DType::kF32),
               other = bench.random({4, 24}, DType::kBF16);
  CHECK_THROWS_WITH(copy_heads(bench.ctx, {a, 0, 2, 6}, {b, 0, 4, 6}),
                    Catch::Matchers::ContainsSubstring("copy_heads: 2 heads cannot become 4"));
  CHECK_THROWS_AS(copy_heads(bench.ctx, {a, 0, 1, 5}, {b, 0, 4, 6}), Error);
  CHECK_THROWS_AS(copy_heads(bench.ctx, {other, 0, 4, 6}, {b, 0, 4, 6}), Error);
  CHECK_THROWS_AS(sum_heads(bench.ctx, {b, 0, 4, 6}, {a, 0, 2, 6}), Error);
  CHECK_THROWS_AS(sum_heads(bench.ctx, {b, 0, 5, 6}, {a, 0, 1, 6}), Error);
  KernelBench meta(1, Device::kMeta);
  copy_heads(meta.ctx, {meta.random({1 << 20, 64}, DType::kBF16), 0, 1, 64},
             {meta.random({1 << 20, 128 * 192}, DType::kBF16), 128, 128, 64, 192});
  CHECK(meta.meter[WorkKind::kRow].bytes == (1 + 128) * 64.0 * 2 * (1 << 20));
}

TEST_CASE("heads in the order of tokens become rows in the order of heads, and come back", "[head_copy]") {
  KernelBench bench(2);
  for (const DType dtype : kFloats) {
    for (const Case& c : kCases) {
      const HeadView x = heads_in(bench, c, c.heads, dtype);
      const HeadView rows = heads_in(bench, {c.rows * c.heads, 1, c.dim, 3}, 1, dtype);
      std::vector<double> want = to_doubles(rows.base);
      const std::vector<double> in = to_doubles(x.base);
      for (std::int64_t t = 0; t < c.rows; ++t) {
        for (std::int64_t h = 0; h < c.heads; ++h)
          for (std::int64_t i = 0; i < c.dim; ++i)
            want[place(rows, h * c.rows + t, 0, i)] = in[place(x, t, h, i)];
      }
      bench.run(heads_to_rows, x, rows);
      CHECK(to_doubles(rows.base) == want);
      const HeadView back = heads_in(bench, c, c.heads, dtype);
      std::vector<double> expected = to_doubles(back.base);
      for (std::int64_t t = 0; t < c.rows; ++t) {
        for (std::int64_t h = 0; h < c.heads; ++h)
          for (std::int64_t i = 0; i < c.dim; ++i) expected[place(back, t, h, i)] = in[place(x, t, h, i)];
      }
      bench.run(rows_to_heads, rows, back);
      CHECK(to_doubles(back.base) == expected);
    }
  }
}

}  // namespace
}  // namespace jevons
