#include "kernels/norm.h"

#include "kernels/core/error.h"
#include "kernels/elementwise.h"
#include "tests/support/kernel_test.h"

namespace jevons {
namespace {

using test::gradient_error;
using test::KernelBench;
using test::max_error;
using test::same_bits;
using test::to_doubles;
using test::tolerance;

constexpr DType kFloats[] = {DType::kF32, DType::kBF16, DType::kF64};
constexpr float kEps = 1e-5f;
struct Size {
  std::int64_t rows, cols;
};
// No row, one row, odd widths, more rows than one block of the dw sum, rows that a GPU gives to a block.
const Size kSizes[] = {{0, 8},     {1, 1},   {2, 3},    {3, 15},   {1, 16},   {5, 17},
                       {130, 100}, {90, 60}, {65, 257}, {7, 1024}, {3, 1101}, {5, 2048}};

struct Reference {
  std::vector<double> y, rstd, dx, dw;
};

// Plain loops over (rows, cols) in double. dw starts from `dw_before`.
Reference reference(const Tensor& x, const Tensor& w, const Tensor& dy, const Tensor& dw_before) {
  const auto xs = to_doubles(x), ws = to_doubles(w), gs = to_doubles(dy);
  const std::size_t cols = ws.size(), rows = xs.size() / cols;
  Reference out{xs, std::vector<double>(rows), xs, to_doubles(dw_before)};
  for (std::size_t r = 0; r < rows; ++r) {
    const double* in = &xs[r * cols];
    double squares = 0, dot = 0;
    for (std::size_t i = 0; i < cols; ++i) squares += in[i] * in[i], dot += gs[r * cols + i] * ws[i] * in[i];
    const auto n = static_cast<double>(cols);
    const double rstd = 1 / std::sqrt(squares / n + static_cast<double>(kEps));
    out.rstd[r] = rstd;
    for (std::size_t i = 0; i < cols; ++i) {
      const double g = gs[r * cols + i];
      out.y[r * cols + i] = in[i] * rstd * ws[i];
      out.dx[r * cols + i] = rstd * g * ws[i] - rstd * rstd * rstd / n * dot * in[i];
      out.dw[i] += g * in[i] * rstd;
    }
  }
  return out;
}

struct Tensors {
  Tensor x, w, dy, y, rstd, dx, dw;
};

Tensors make(KernelBench& bench, Size size, DType dtype) {
  const DType sums = accumulator_of(dtype);
  const Shape matrix{size.rows, size.cols};
  return {bench.random(matrix, dtype),    bench.random({size.cols}, sums),   bench.random(matrix, dtype),
          bench.poisoned(matrix, dtype),  bench.poisoned({size.rows}, sums), bench.poisoned(matrix, dtype),
          bench.random({size.cols}, sums)};
}

TEST_CASE("RMSNorm against fp64 loops", "[norm]") {
  KernelBench bench(2);
  for (const DType dtype : kFloats) {
    for (const Size size : kSizes) {
      INFO(name_of(dtype) << " " << size.rows << " x " << size.cols);
      const Tensors t = make(bench, size, dtype);
      const Reference want = reference(t.x, t.w, t.dy, t.dw);
      bench.run(rmsnorm_forward, t.x, t.w, kEps, t.y, t.rstd);
      bench.run(rmsnorm_backward, t.dy, {t.x, t.w, t.rstd}, {}, t.dx, t.dw);
      CHECK(max_error(t.y, want.y) <= tolerance(dtype));
      CHECK(max_error(t.rstd, want.rstd) <= tolerance(t.rstd.dtype));
      CHECK(max_error(t.dx, want.dx) <= tolerance(dtype));
      CHECK(max_error(t.dw, want.dw) <= 10 * tolerance(t.dw.dtype));
    }
  }
}

// More rows than three passes over the partial sums of dw take on a GPU at once.
TEST_CASE("RMSNorm backward over many rows", "[norm]") {
  KernelBench bench(2);
  const Tensors t = make(bench, {16500, 2}, DType::kF32);
  const Reference want = reference(t.x, t.w, t.dy, t.dw);
  bench.run(rmsnorm_forward, t.x, t.w, kEps, t.y, t.rstd);
  bench.run(rmsnorm_backward, t.dy, {t.x, t.w, t.rstd}, {}, t.dx, t.dw);
  CHECK(max_error(t.dw, want.dw) <= 100 * tolerance(DType::kF32));
}

TEST_CASE("RMSNorm backward adds the residual's gradient, also in place", "[norm]") {
  KernelBench bench(2);
  for (const DType dtype : kFloats) {
    for (const Size size : kSizes) {
      const Tensors t = make(bench, size, dtype);
      bench.run(rmsnorm_forward, t.x, t.w, kEps, t.y, t.rstd);
      const Tensor past = bench.random(t.x.shape, dtype);
      std::vector<double> want = reference(t.x, t.w, t.dy, t.dw).dx;
      const std::vector<double> added = to_doubles(past);
      for (std::size_t i = 0; i < want.size(); ++i) want[i] += added[i];
      bench.run(rmsnorm_backward, t.dy, {t.x, t.w, t.rstd}, past, t.dx, t.dw);
      CHECK(max_error(t.dx, want) <= tolerance(dtype));
      const Tensor in_past = bench.clone(past), in_dy = bench.clone(t.dy),
                   dw = bench.random(t.w.shape, t.w.dtype);
      bench.run(rmsnorm_backward, t.dy, {t.x, t.w, t.rstd}, in_past, in_past, dw);
      bench.run(rmsnorm_backward, in_dy, {t.x, t.w, t.rstd}, past, in_dy, dw);
      CHECK(same_bits(in_past, t.dx));
      CHECK(same_bits(in_dy, t.dx));
    }
  }
}

TEST_CASE("add_rmsnorm is add, then rmsnorm, to the bit", "[norm]") {
  KernelBench bench(2);
  for (const DType dtype : kFloats) {
    for (const Size size : kSizes) {
      const Tensors t = make(bench, size, dtype);
      const Tensor h = bench.poisoned(t.x.shape, dtype), y = bench.poisoned(t.x.shape, dtype);
      const Tensor rstd = bench.poisoned(t.rstd.shape, t.rstd.dtype);
      bench.run(add, t.x, t.dy, h);
      bench.run(rmsnorm_forward, h, t.w, kEps, y, rstd);
      for (const Tensor& into : {bench.poisoned(t.x.shape, dtype), t.x, t.dy}) {
        const Tensor a = bench.clone(t.x), b = bench.clone(t.dy);
        const Tensor out = into.data == t.x.data ? a : into.data == t.dy.data ? b : into;
        bench.run(add_rmsnorm_forward, a, b, t.w, kEps, {out, t.y, t.rstd});
        CHECK(same_bits(out, h));
        CHECK(same_bits(t.y, y));
        CHECK(same_bits(t.rstd, rstd));
      }
    }
  }
}

TEST_CASE("RMSNorm: bits do not depend on threads nor on the other rows", "[norm]") {
  KernelBench bench;
  for (const DType dtype : kFloats) {
    const Tensors one = make(bench, {700, 100}, dtype);
    Tensors two = one;
    two.y = bench.poisoned(one.y.shape, dtype), two.dx = bench.poisoned(one.dx.shape, dtype);
    two.rstd = bench.poisoned(one.rstd.shape, one.rstd.dtype), two.dw = bench.clone(one.dw);
    const auto run = [&](const Tensors& t, int threads) {
      bench.ctx.threads = threads;
      bench.run(rmsnorm_forward, t.x, t.w, kEps, t.y, t.rstd);
      bench.run(rmsnorm_backward, t.dy, {t.x, t.w, t.rstd}, {}, t.dx, t.dw);
    };
    run(one, 1);
    run(two, 3);
    CHECK(same_bits(one.y, two.y));
    CHECK(same_bits(one.dx, two.dx));
    CHECK(same_bits(one.dw, two.dw));

    const Tensor y = bench.poisoned({1, 100}, dtype), dx = bench.poisoned({1, 100}, dtype);
    const Tensor rstd = bench.poisoned({1}, accumulator_of(dtype));
    const auto row = [](const Tensor& t) { return t.slice(71, 72); };
    bench.run(rmsnorm_forward, row(one.x), one.w, kEps, y, rstd);
    bench.run(rmsnorm_backward, row(one.dy), {row(one.x), one.w, rstd}, {}, dx, one.dw);
    CHECK(same_bits(y, row(one.y)));
    CHECK(same_bits(dx, row(one.dx)));
  }
}

TEST_CASE("Head RMSNorm works inside a fused projection and leaves the rest alone", "[norm]") {
  KernelBench bench(2);
  for (const DType dtype : kFloats) {
    for (const std::int64_t tokens : {0, 1, 5, 70}) {
      constexpr std::int64_t kHeads = 3, kDim = 10, kFirst = 7, kWidth = 50;
      const std::int64_t pitch = tokens == 5 ? kDim : kDim + 3;  // side by side, or parts of wider heads
      const auto view = [&](const Tensor& base) { return HeadView{base, kFirst, kHeads, kDim, pitch}; };
      // Index in the wide matrix of element i of the packed heads.
      const auto wide = [&](std::size_t i) {
        return i / (kHeads * kDim) * kWidth + kFirst + i / kDim % kHeads * static_cast<std::size_t>(pitch) +
               i % kDim;
      };
      const DType sums = accumulator_of(dtype);
      const Tensor x = bench.random({tokens, kWidth}, dtype), y = bench.random({tokens, kWidth}, dtype);
      const Tensor dx = bench.random({tokens, kWidth}, dtype);
      const Tensor dy = bench.random({tokens, kHeads * kDim}, dtype);
      const HeadView dy_heads{dy, 0, kHeads, kDim};
      const Tensor w = bench.random({kDim}, sums), dw = bench.random({kDim}, sums);
      const Tensor rstd = bench.poisoned({tokens, kHeads}, sums);

      const Tensor packed = bench.filled({tokens * kHeads, kDim}, dtype,
                                         [&, v = to_doubles(x)](std::int64_t i) { return v[wide(i)]; });
      const Reference want = reference(packed, w, dy.reshape(packed.shape), dw);
      auto want_y = to_doubles(y), want_in_place = to_doubles(x), want_dx = to_doubles(dx);
      for (std::size_t i = 0; i < want.y.size(); ++i) {
        want_y[wide(i)] = want_in_place[wide(i)] = want.y[i];
        want_dx[wide(i)] = want.dx[i];
      }
      bench.run(head_rmsnorm_forward, view(x), w, kEps, view(y), rstd);
      bench.run(head_rmsnorm_backward, dy_heads, {view(x), w, rstd}, view(dx), dw);
      CHECK(max_error(y, want_y) <= tolerance(dtype));
      CHECK(max_error(rstd, want.rstd) <= tolerance(sums));
      CHECK(max_error(dx, want_dx) <= tolerance(dtype));
      CHECK(max_error(dw, want.dw) <= 10 * tolerance(sums));

      bench.run(head_rmsnorm_backward, dy_heads, {view(x), w, rstd}, dy_heads, dw);
      CHECK(max_error(dy, want.dx) <= tolerance(dtype));
      bench.run(head_rmsnorm_forward, view(x), w, kEps, view(x), rstd);
      CHECK(max_error(x, want_in_place) <= tolerance(dtype));
    }
  }
}

TEST_CASE("RMSNorm gradients against central differences", "[norm][gradient]") {
  KernelBench bench;
  const Tensors t = make(bench, {5, 13}, DType::kF64);
  const Tensor scratch = bench.poisoned(t.x.shape, DType::kF64),
               rstd = bench.poisoned(t.rstd.shape, DType::kF64);
  const auto loss = [&] {
    bench.run(rmsnorm_forward, t.x, t.w, kEps, scratch, rstd);
    double sum = 0;
    for (std::int64_t i = 0; i < scratch.numel(); ++i)
      sum += scratch.ptr<double>()[i] * t.dy.ptr<double>()[i];
    return sum;
  };
  loss();
  const std::vector<double> before = to_doubles(t.dw);
  bench.run(rmsnorm_backward, t.dy, {t.x, t.w, rstd}, {}, t.dx, t.dw);
  for (std::size_t i = 0; i < before.size(); ++i) t.dw.ptr<double>()[i] -= before[i];
  CHECK(gradient_error(t.x, t.dx, loss) <= 1e-8);
  CHECK(gradient_error(t.w, t.dw, loss) <= 1e-8);
}

TEST_CASE("Norms check their tensors and run on the meta device", "[norm]") {
  KernelBench bench;
  const Tensors t = make(bench, {4, 6}, DType::kBF16);
  const Tensor half_w = bench.random({6}, DType::kBF16);
  CHECK_THROWS_WITH(rmsnorm_forward(bench.ctx, t.x, half_w, kEps, t.y, t.rstd),
                    Catch::Matchers::ContainsSubstring("rmsnorm_forward: w is bf16 (6)"));
  CHECK_THROWS_AS(rmsnorm_forward(bench.ctx, t.x, t.w, kEps, t.y, t.w), Error);
  CHECK_THROWS_WITH(head_rmsnorm_forward(bench.ctx, {t.x, 3, 2, 2}, bench.random({2}, DType::kF32), kEps,
                                         {t.y, 3, 2, 2}, bench.poisoned({4, 2}, DType::kF32)),
                    Catch::Matchers::ContainsSubstring("2 heads of 2 from column 3 do not fit"));

  KernelBench meta(1, Device::kMeta);
  const Tensors m = make(meta, {1 << 20, 4096}, DType::kBF16);
  rmsnorm_forward(meta.ctx, m.x, m.w, kEps, m.y, m.rstd);
  CHECK(meta.meter[WorkKind::kRow].bytes == 2.0 * m.x.bytes() + m.w.bytes() + m.rstd.bytes());
  rmsnorm_backward(meta.ctx, m.dy, {m.x, m.w, m.rstd}, m.dx, m.dx, m.dw);
  add_rmsnorm_forward(meta.ctx, m.x, m.dy, m.w, kEps, {m.x, m.y, m.rstd});
  CHECK(meta.meter[WorkKind::kRow].calls == 3);
}

}  // namespace
}  // namespace jevons
