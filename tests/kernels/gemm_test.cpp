#include "kernels/gemm.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/core/error.h"
#include "kernels/core/rng.h"
#include "kernels/cpu/gemm.h"
#include "tests/support/catch.h"

namespace jevons {
namespace {

// A tensor with its own memory. Elements are uniform in [-1, 1), or NaN when it is to be written.
struct Matrix {
  Buffer buffer;
  Tensor t;

  Matrix(DType dtype, Shape shape)
      : buffer(Device::kCpu, static_cast<std::size_t>(shape.numel()) * size_of(dtype)) {
    t = buffer.view(0, shape, dtype);
    for (std::int64_t i = 0; i < shape.numel(); ++i) set(i, std::numeric_limits<double>::quiet_NaN());
  }
  Matrix(DType dtype, Shape shape, const char* name) : Matrix(dtype, shape) {
    const RandomStream random(7, name);
    for (std::int64_t i = 0; i < shape.numel(); ++i)
      set(i, 2 * random.uniform(static_cast<std::uint64_t>(i)) - 1);
  }
  void set(std::int64_t i, double value) {
    if (t.dtype == DType::kF64) static_cast<double*>(t.data)[i] = value;
    if (t.dtype == DType::kF32) static_cast<float*>(t.data)[i] = static_cast<float>(value);
    if (t.dtype == DType::kBF16) static_cast<bf16*>(t.data)[i] = bf16(static_cast<float>(value));
  }
  double operator[](std::int64_t i) const {
    if (t.dtype == DType::kF64) return static_cast<const double*>(t.data)[i];
    if (t.dtype == DType::kF32) return static_cast<const float*>(t.data)[i];
    return static_cast<float>(static_cast<const bf16*>(t.data)[i]);
  }
};

bool same_bits(const Tensor& a, const Tensor& b) {
  return std::memcmp(a.data, b.data, a.bytes()) == 0;
}

// Bound of |computed - exact| for a sum of k products below 1, plus the rounding of a result of this size.
double tolerance(DType dtype, std::int64_t k, double exact) {
  const double sum = dtype == DType::kF64 ? 1e-15 : 1.2e-7;
  const double last = dtype == DType::kBF16 ? 1.0 / 256 : 0;
  return sum * (4 + 2 * std::sqrt(static_cast<double>(k)) * 4) + last * std::abs(exact);
}

void require_close(const Matrix& got, std::int64_t i, double exact, DType dtype, std::int64_t k) {
  if (!(std::abs(got[i] - exact) <= tolerance(dtype, k, exact))) {
    CAPTURE(got.t.to_string(), i, got[i], exact, k);
    REQUIRE(std::abs(got[i] - exact) <= tolerance(dtype, k, exact));
  }
}

struct LinearCase {
  DType dtype;
  std::int64_t rows, in, out;
};

// x, w and dy give y and dx, and are added to dw_before in dw.
struct Products {
  const Matrix &x, &w, &dy, &y, &dx, &dw, &dw_before;
};

// Every `stride`-th element of all three products of rows [begin, end) and of matrix `group` against sums in
// double.
void check_products(const LinearCase& c, const Products& products, std::int64_t begin, std::int64_t end,
                    std::int64_t group) {
  const auto& [x, w, dy, y, dx, dw, dw_before] = products;
  const std::int64_t in = c.in, out = c.out,
                     stride = std::max<std::int64_t>((end - begin) * in * out / 20000, 1) | 1;
  const std::int64_t w0 = group * out * in;
  for (std::int64_t e = 0; e < (end - begin) * out; e += stride) {
    const std::int64_t r = begin + e / out, o = e % out;
    double sum = 0;
    for (std::int64_t i = 0; i < in; ++i) sum += x[r * in + i] * w[w0 + o * in + i];
    require_close(y, r * out + o, sum, c.dtype, in);
  }
  for (std::int64_t e = 0; e < (end - begin) * in; e += stride) {
    const std::int64_t r = begin + e / in, i = e % in;
    double sum = 0;
    for (std::int64_t o = 0; o < out; ++o) sum += dy[r * out + o] * w[w0 + o * in + i];
    require_close(dx, r * in + i, sum, c.dtype, out);
  }
  for (std::int64_t e = 0; e < out * in; e += stride) {
    const std::int64_t o = e / in, i = e % in;
    double sum = dw_before[w0 + e];
    for (std::int64_t r = begin; r < end; ++r) sum += dy[r * out + o] * x[r * in + i];
    require_close(dw, w0 + e, sum, accumulator_of(c.dtype), end - begin);
  }
}

void check_dense(const LinearCase& c, int threads) {
  CAPTURE(name_of(c.dtype), c.rows, c.in, c.out, threads);
  Context ctx;
  ctx.threads = threads;
  const Matrix x(c.dtype, {c.rows, c.in}, "x"), w(c.dtype, {c.out, c.in}, "w"),
      dy(c.dtype, {c.rows, c.out}, "dy");
  const DType sums = accumulator_of(c.dtype);
  Matrix y(c.dtype, {c.rows, c.out}), dx(c.dtype, {c.rows, c.in}), dw(sums, {c.out, c.in}, "dw");
  const Matrix before(sums, {c.out, c.in}, "dw");
  linear_forward(ctx, x.t, w.t, y.t);
  linear_backward_input(ctx, dy.t, w.t, dx.t);
  linear_backward_weight(ctx, dy.t, x.t, dw.t);
  check_products(c, {x, w, dy, y, dx, dw, before}, 0, c.rows, 0);
}

constexpr DType kAllTypes[] = {DType::kF32, DType::kBF16, DType::kF64};

TEST_CASE("linear products match sums in double", "[gemm]") {
  const std::int64_t sizes[][3] = {{1, 1, 1},      {1, 33, 100},    {13, 14, 15},  {14, 31, 33},
                                   {15, 64, 31},   {31, 100, 64},   {33, 513, 14}, {64, 64, 64},
                                   {100, 13, 513}, {513, 33, 31},   {700, 15, 13}, {113, 130, 70},
                                   {57, 1027, 65}, {1100, 70, 600}, {29, 2050, 33}};
  for (const DType dtype : kAllTypes) {
    for (const auto& s : sizes) {
      for (const int threads : {1, 2}) check_dense({dtype, s[0], s[1], s[2]}, threads);
    }
  }
}

TEST_CASE("linear products without rows", "[gemm]") {
  for (const DType dtype : kAllTypes) {
    const Context ctx;
    const Matrix x(dtype, {0, 5}), w(dtype, {3, 5}, "w");
    Matrix y(dtype, {0, 3}), dw(accumulator_of(dtype), {3, 5}, "dw");
    const Matrix before(accumulator_of(dtype), {3, 5}, "dw");
    linear_forward(ctx, x.t, w.t, y.t);
    linear_backward_input(ctx, y.t, w.t, x.t);
    linear_backward_weight(ctx, y.t, x.t, dw.t);
    CHECK(same_bits(dw.t, before.t));
  }
}

TEST_CASE("a product over nothing is zero", "[gemm]") {
  for (const DType dtype : kAllTypes) {
    const Context ctx;
    const Matrix x(dtype, {20, 0}), w(dtype, {33, 0});
    Matrix y(dtype, {20, 33});
    linear_forward(ctx, x.t, w.t, y.t);
    for (std::int64_t i = 0; i < y.t.numel(); ++i) REQUIRE(y[i] == 0);
  }
}

// Row counts per group: empty ones, odd ones, one larger than a task.
const std::vector<std::vector<std::int64_t>> kGroupings = {
    {}, {0, 0, 0}, {7}, {0, 14, 0, 1, 33, 0}, {460, 0, 3, 100, 31}, {0, 513, 0, 0}, {1, 1, 1, 1, 1, 1, 1, 1}};

std::vector<std::int64_t> offsets_of(const std::vector<std::int64_t>& counts) {
  std::vector<std::int64_t> offsets = {0};
  for (const std::int64_t count : counts) offsets.push_back(offsets.back() + count);
  return offsets;
}

TEST_CASE("grouped products match sums in double", "[gemm]") {
  const std::int64_t in = 47, out = 66;
  for (const DType dtype : kAllTypes) {
    for (const auto& counts : kGroupings) {
      for (const int threads : {1, 2}) {
        Context ctx;
        ctx.threads = threads;
        const auto offsets = offsets_of(counts);
        const auto groups = static_cast<std::int64_t>(counts.size());
        const std::int64_t rows = offsets.back();
        CAPTURE(name_of(dtype), groups, rows, threads);
        const DType sums = accumulator_of(dtype);
        const Matrix x(dtype, {rows, in}, "x"), w(dtype, {groups, out, in}, "w"),
            dy(dtype, {rows, out}, "dy");
        Matrix y(dtype, {rows, out}), dx(dtype, {rows, in}), dw(sums, {groups, out, in}, "dw");
        const Matrix before(sums, {groups, out, in}, "dw");
        grouped_linear_forward(ctx, offsets, x.t, w.t, y.t);
        grouped_linear_backward_input(ctx, offsets, dy.t, w.t, dx.t);
        grouped_linear_backward_weight(ctx, offsets, dy.t, x.t, dw.t);
        for (std::int64_t g = 0; g < groups; ++g) {
          const auto i = static_cast<std::size_t>(g);
          check_products({dtype, rows, in, out}, {x, w, dy, y, dx, dw, before}, offsets[i], offsets[i + 1],
                         g);
        }
      }
    }
  }
}

// Rows of a call of 300 against the same rows in calls of their own, and against a group of an expert call.
TEST_CASE("a row's bits do not depend on the other rows, the grouping or the threads", "[gemm]") {
  const std::int64_t rows = 300, in = 1200, out = 90;
  for (const DType dtype : kAllTypes) {
    if (!gemm_backend(dtype).row_invariant) continue;
    CAPTURE(name_of(dtype));
    Context one, two;
    two.threads = 2;
    const Matrix x(dtype, {rows, in}, "x"), w(dtype, {out, in}, "w"), dy(dtype, {rows, out}, "dy");
    Matrix y(dtype, {rows, out}), y2(dtype, {rows, out}), dx(dtype, {rows, in}), dx2(dtype, {rows, in});
    linear_forward(two, x.t, w.t, y.t);
    linear_backward_input(two, dy.t, w.t, dx.t);
    for (const std::int64_t step : {1, 5, 14, 17, 113, 300}) {
      CAPTURE(step);
      for (std::int64_t r = 0; r < rows; r += step) {
        const std::int64_t end = std::min(r + step, rows);
        linear_forward(one, x.t.slice(r, end), w.t, y2.t.slice(r, end));
        linear_backward_input(one, dy.t.slice(r, end), w.t, dx2.t.slice(r, end));
      }
      REQUIRE(same_bits(y.t, y2.t));
      REQUIRE(same_bits(dx.t, dx2.t));
    }
    const std::vector<std::int64_t> offsets = {0, 300};
    grouped_linear_forward(two, offsets, x.t, w.t.reshape({1, out, in}), y2.t);
    REQUIRE(same_bits(y.t, y2.t));

    Matrix dw1(accumulator_of(dtype), {out, in}, "dw"), dw2(accumulator_of(dtype), {out, in}, "dw");
    Matrix dw3(accumulator_of(dtype), {1, out, in}, "dw");
    linear_backward_weight(one, dy.t, x.t, dw1.t);
    linear_backward_weight(two, dy.t, x.t, dw2.t);
    grouped_linear_backward_weight(two, offsets, dy.t, x.t, dw3.t);
    REQUIRE(same_bits(dw1.t, dw2.t));
    REQUIRE(same_bits(dw1.t, dw3.t));
  }
}

// The engine that other CPUs use gives the same products, within rounding.
TEST_CASE("library engines agree with the chosen ones", "[gemm]") {
  const std::int64_t m = 130, n = 70, k = 90;
  const cpu::GemmEngine* const engines[] = {&cpu::gemm_engine_blas_f32(), &cpu::gemm_engine_blas_bf16()};
  const DType dtypes[] = {DType::kF32, DType::kBF16};
  for (const int i : {0, 1}) {
    const DType dtype = dtypes[i];
    const Matrix a_inner(dtype, {m, k}, "a"), a_outer(dtype, {k, m}, "a"), b_inner(dtype, {n, k}, "b"),
        b_outer(dtype, {k, n}, "b");
    for (const bool inner : {true, false}) {
      for (const Output output : {Output::kAssign, Output::kAccumulate}) {
        const DType c_type = output == Output::kAssign ? dtype : DType::kF32;
        Matrix c(c_type, {m, n}, "c"), c2(c_type, {m, n}, "c");
        Product p{m, n, k, {}, {}, c.t.data, n, c_type, output};
        p.a = inner ? Operand{a_inner.t.data, k, dtype, Contiguous::kInner}
                    : Operand{a_outer.t.data, m, dtype, Contiguous::kOuter};
        p.b = inner ? Operand{b_inner.t.data, k, dtype, Contiguous::kInner}
                    : Operand{b_outer.t.data, n, dtype, Contiguous::kOuter};
        cpu::run_product(2, cpu::gemm_engine(dtype), p);
        p.c = c2.t.data;
        cpu::run_product(2, *engines[i], p);
        for (std::int64_t e = 0; e < m * n; ++e) require_close(c2, e, c[e], c_type, k);
      }
    }
  }
}

// Two factors of any dtypes, with and without scales, in every form and to every dtype that the result may
// have.
struct Mixed {
  DType a, b;
  bool scaled;
};

// Of a product of f32 or wider factors whose sum runs over k.
double mixed_tolerance(const Mixed& mixed, DType result, std::int64_t k, double exact) {
  const bool f64 = mixed.a == DType::kF64 || mixed.b == DType::kF64;
  const double of_scale = mixed.scaled && !f64 ? 2.4e-7 * std::sqrt(static_cast<double>(k)) : 0;
  return tolerance(f64 ? DType::kF64 : result, k, exact) + of_scale * 4;
}

void check_mixed(const Mixed& mixed, DType result, int threads) {
  const std::int64_t rows = 61, in = 1100, out = 37;
  CAPTURE(name_of(mixed.a), name_of(mixed.b), mixed.scaled, name_of(result), threads);
  Context ctx;
  ctx.threads = threads;
  float scales[2] = {-1.75f, 0.3f};
  const auto factor = [&](const Matrix& m, float& scale) {
    return mixed.scaled ? Factor(m.t, {&scale, {1}, DType::kF32, Device::kCpu}) : Factor(m.t);
  };
  const double scale = mixed.scaled ? static_cast<double>(scales[0]) * static_cast<double>(scales[1]) : 1;
  const auto require = [&](const Matrix& got, std::int64_t i, double exact, std::int64_t k) {
    CAPTURE(i, got[i], exact);
    REQUIRE(std::abs(got[i] - exact) <= mixed_tolerance(mixed, result, k, exact));
  };
  const Matrix x(mixed.a, {rows, in}, "x"), w(mixed.b, {out, in}, "w"), dy(mixed.a, {rows, out}, "dy");
  const Matrix right(mixed.b, {rows, in}, "right");
  Matrix y(result, {rows, out}), dx(result, {rows, in});
  linear_forward(ctx, factor(x, scales[0]), factor(w, scales[1]), y.t);
  linear_backward_input(ctx, factor(dy, scales[0]), factor(w, scales[1]), dx.t);
  for (std::int64_t r = 0; r < rows; r += 7) {
    for (std::int64_t o = 0; o < out; ++o) {
      double sum = 0;
      for (std::int64_t i = 0; i < in; ++i) sum += x[r * in + i] * w[o * in + i];
      require(y, r * out + o, scale * sum, in);
    }
    for (std::int64_t i = 0; i < in; i += 5) {
      double sum = 0;
      for (std::int64_t o = 0; o < out; ++o) sum += dy[r * out + o] * w[o * in + i];
      require(dx, r * in + i, scale * sum, out);
    }
  }
  if (result == DType::kBF16) return;
  Matrix dw(result, {out, in}, "dw");
  const Matrix before(result, {out, in}, "dw");
  linear_backward_weight(ctx, factor(dy, scales[0]), factor(right, scales[1]), dw.t);
  for (std::int64_t e = 0; e < out * in; e += 11) {
    double sum = 0;
    for (std::int64_t r = 0; r < rows; ++r) sum += dy[r * out + e / in] * right[r * in + e % in];
    require(dw, e, before[e] + scale * sum, rows);
  }
}

TEST_CASE("a product takes factors of two dtypes and scales", "[gemm]") {
  for (const DType a : kAllTypes) {
    for (const DType b : kAllTypes) {
      const bool f64 = a == DType::kF64 || b == DType::kF64;
      for (const bool scaled : {false, true}) {
        for (const DType result : {DType::kF32, DType::kBF16, DType::kF64}) {
          if (f64 != (result == DType::kF64)) continue;
          for (const int threads : {1, 2}) check_mixed({a, b, scaled}, result, threads);
        }
      }
    }
  }
}

TEST_CASE("f32 by bf16 has the bits of f32 by the same numbers in f32", "[gemm]") {
  const std::int64_t rows = 45, in = 600, out = 70;
  Context one, two;
  two.threads = 2;
  const Matrix x(DType::kBF16, {rows, in}, "x"), w(DType::kF32, {out, in}, "w");
  Matrix wide(DType::kF32, {rows, in}), y(DType::kF32, {rows, out}), y2(DType::kF32, {rows, out});
  for (std::int64_t i = 0; i < rows * in; ++i) wide.set(i, x[i]);
  linear_forward(two, wide.t, w.t, y.t);
  linear_forward(two, x.t, w.t, y2.t);
  if (gemm_backend(DType::kF32).row_invariant) CHECK(same_bits(y.t, y2.t));
  const std::vector<std::int64_t> offsets = {0, 17, 17, 45};
  const Matrix experts(DType::kF32, {3, out, in}, "w");
  grouped_linear_forward(two, offsets, wide.t, experts.t, y.t);
  grouped_linear_forward(one, offsets, x.t, experts.t, y2.t);
  if (gemm_backend(DType::kF32).row_invariant) CHECK(same_bits(y.t, y2.t));
}

TEST_CASE("linear products on the meta device only count", "[gemm]") {
  Context ctx;
  WorkMeter meter;
  ctx.listener = &meter;
  ctx.device = Device::kMeta;
  const Tensor x{nullptr, {6, 4}, DType::kBF16, Device::kMeta},
      w{nullptr, {3, 4}, DType::kBF16, Device::kMeta}, y{nullptr, {6, 3}, DType::kBF16, Device::kMeta},
      dw{nullptr, {3, 4}, DType::kF32, Device::kMeta};
  linear_forward(ctx, x, w, y);
  linear_backward_input(ctx, y, w, x);
  linear_backward_weight(ctx, y, x, dw);
  CHECK(meter[WorkKind::kGemm].flops == 3 * 2.0 * 6 * 4 * 3);
  CHECK(meter[WorkKind::kGemm].bytes == 2 * 2.0 * (24 + 12 + 18) + 2.0 * (24 + 18) + 2 * 4.0 * 12);
  const std::vector<std::int64_t> offsets = {0, 2, 2, 6};
  const Tensor w3{nullptr, {3, 3, 4}, DType::kBF16, Device::kMeta};
  grouped_linear_forward(ctx, offsets, x, w3, y);
  CHECK(meter[WorkKind::kGroupedGemm].flops == 2.0 * 6 * 4 * 3);
}

TEST_CASE("linear products refuse shapes and dtypes that do not fit", "[gemm]") {
  const Context ctx;
  const Matrix x(DType::kF32, {6, 4}), w(DType::kF32, {3, 4}), y(DType::kF32, {6, 3}),
      half(DType::kBF16, {6, 3});
  CHECK_THROWS_AS(linear_forward(ctx, x.t, w.t.reshape({4, 3}), y.t), Error);
  CHECK_NOTHROW(linear_forward(ctx, x.t, w.t, half.t));
  CHECK_THROWS_AS(linear_forward(ctx, x.t, w.t, Matrix(DType::kF64, {6, 3}).t), Error);
  CHECK_THROWS_AS(linear_backward_weight(ctx, half.t, x.t, Matrix(DType::kBF16, {3, 4}).t), Error);
  CHECK_THROWS_AS(linear_forward(ctx, Factor(x.t, y.t), w.t, y.t), Error);  // a scale is one number
  const Tensor w1 = w.t.reshape({1, 3, 4});
  for (const std::vector<std::int64_t>& offsets : {std::vector<std::int64_t>{0, 5}, {1, 6}, {0, 7, 6}, {}}) {
    CHECK_THROWS_AS(grouped_linear_forward(ctx, offsets, x.t, w1, y.t), Error);
  }
  const Tensor on_gpu{nullptr, {6, 4}, DType::kF32, Device::kCuda};
  CHECK_THROWS_AS(linear_forward(ctx, on_gpu, w.t, y.t), Error);
}

}  // namespace
}  // namespace jevons
