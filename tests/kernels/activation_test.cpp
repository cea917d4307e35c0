#include "kernels/activation.h"

#include "kernels/core/error.h"
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
struct Size {
  std::int64_t rows, cols;
};
const Size kSizes[] = {{0, 8},  {1, 1},     {2, 3},    {3, 15},   {1, 16},
                       {5, 17}, {130, 100}, {65, 257}, {3, 1101}, {5, 2048}};

struct Tensors {
  Tensor gate_up, scale, h, dh, d_gate_up, d_scale;
  double limit = 0;
  SwigluInput in() const { return {gate_up, scale, limit}; }
};

enum class Scale { kNone, kPerRow };

Tensors make(KernelBench& bench, Size size, DType dtype, Scale scale) {
  const DType sums = accumulator_of(dtype);
  Tensors t;
  t.gate_up = bench.random({size.rows, 2 * size.cols}, dtype, 2);
  t.h = bench.poisoned({size.rows, size.cols}, dtype);
  t.dh = bench.random({size.rows, size.cols}, dtype);
  t.d_gate_up = bench.poisoned({size.rows, 2 * size.cols}, dtype);
  if (scale == Scale::kPerRow)
    t.scale = bench.random({size.rows}, sums), t.d_scale = bench.poisoned({size.rows}, sums);
  return t;
}

void run(KernelBench& bench, const Tensors& t) {
  bench.run(swiglu_forward, t.in(), t.h);
  bench.run(swiglu_backward, t.dh, t.in(), t.d_gate_up, t.d_scale);
}

struct Reference {
  std::vector<double> h, d_gate_up, d_scale;
};

Reference reference(const Tensors& t) {
  const auto in = to_doubles(t.gate_up), dh = to_doubles(t.dh);
  const auto rows = static_cast<std::size_t>(t.dh.shape[0]), cols = static_cast<std::size_t>(t.dh.shape[1]);
  const std::vector<double> scale = t.scale.defined() ? to_doubles(t.scale) : std::vector<double>(rows, 1.0);
  Reference out{dh, in, std::vector<double>(rows)};
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t i = 0; i < cols; ++i) {
      const std::size_t at = r * cols + i, gate = r * 2 * cols + i, up = gate + cols;
      const double bound = t.limit > 0 ? t.limit : 1e300;
      const double g = std::min(in[gate], bound), u = std::clamp(in[up], -bound, bound);
      const double s = 1 / (1 + std::exp(-g)), silu = g * s;
      out.h[at] = scale[r] * silu * u;
      out.d_scale[r] += dh[at] * silu * u;
      out.d_gate_up[gate] = g < in[gate] ? 0 : dh[at] * scale[r] * u * (s + silu * (1 - s));
      out.d_gate_up[up] = u != in[up] ? 0 : dh[at] * scale[r] * silu;
    }
  }
  return out;
}

TEST_CASE("SwiGLU against fp64 loops, with and without a factor per row, also in place", "[activation]") {
  KernelBench bench(2);
  for (const DType dtype : kFloats) {
    for (const Size size : kSizes) {
      for (const Scale scale : {Scale::kNone, Scale::kPerRow}) {
        INFO(name_of(dtype) << " " << size.rows << " x " << size.cols);
        Tensors t = make(bench, size, dtype, scale);
        t.limit = size.cols % 2 == 0 ? 1.5 : 0;  // gate and up have a standard deviation of 2
        const Reference want = reference(t);
        run(bench, t);
        CHECK(max_error(t.h, want.h) <= tolerance(dtype));
        CHECK(max_error(t.d_gate_up, want.d_gate_up) <= tolerance(dtype));
        if (scale == Scale::kPerRow)
          CHECK(max_error(t.d_scale, want.d_scale) <= 10 * tolerance(t.scale.dtype));
        Tensors in_place = t;
        in_place.gate_up = in_place.d_gate_up = bench.clone(t.gate_up);
        run(bench, in_place);
        CHECK(same_bits(in_place.d_gate_up, t.d_gate_up));
      }
    }
  }
}

TEST_CASE("SwiGLU: bits do not depend on threads nor on the other rows", "[activation]") {
  KernelBench bench;
  for (const DType dtype : kFloats) {
    const Tensors one = make(bench, {700, 100}, dtype, Scale::kPerRow);
    Tensors two = one;
    two.h = bench.poisoned(one.h.shape, dtype), two.d_gate_up = bench.poisoned(one.gate_up.shape, dtype);
    two.d_scale = bench.poisoned(one.scale.shape, one.scale.dtype);
    run(bench, one);
    bench.ctx.threads = 3;
    run(bench, two);
    CHECK(same_bits(one.h, two.h));
    CHECK(same_bits(one.d_gate_up, two.d_gate_up));
    CHECK(same_bits(one.d_scale, two.d_scale));
    const auto row = [](const Tensor& t) { return t.slice(71, 72); };
    const Tensors alone{.gate_up = row(one.gate_up),
                        .scale = row(one.scale),
                        .h = bench.poisoned({1, 100}, dtype),
                        .dh = row(one.dh),
                        .d_gate_up = bench.poisoned({1, 200}, dtype),
                        .d_scale = bench.poisoned({1}, one.scale.dtype)};
    run(bench, alone);
    CHECK(same_bits(alone.h, row(one.h)));
    CHECK(same_bits(alone.d_gate_up, row(one.d_gate_up)));
    CHECK(same_bits(alone.d_scale, row(one.d_scale)));
  }
}

TEST_CASE("SwiGLU stays finite at large gates", "[activation]") {
  KernelBench bench;
  const double gates[] = {-1e30, -200, -89, -88, 0, 88, 200, 1e18};
  for (const DType dtype : kFloats) {
    Tensors t = make(bench, {1, 8}, dtype, Scale::kNone);
    test::fill(t.gate_up, [&](std::int64_t i) { return i < 8 ? gates[i] : 0.5; });
    run(bench, t);
    CHECK(max_error(t.h, reference(t).h) <= tolerance(dtype));
    CHECK(max_error(t.d_gate_up, reference(t).d_gate_up) <= tolerance(dtype));
  }
}

TEST_CASE("SwiGLU with a limit: by hand, at the limit and beyond", "[activation]") {
  KernelBench bench;
  Tensors t = make(bench, {1, 5}, DType::kF64, Scale::kNone);
  t.limit = 2;
  const double in[] = {3, 2, -9, 1, std::nan(""), /* up */ 1, -2, 5, -2.5, 1};
  test::fill(t.gate_up, [&](std::int64_t i) { return in[i]; });
  test::fill(t.dh, [](std::int64_t) { return 1; });
  run(bench, t);
  const auto silu = [](double x) { return x / (1 + std::exp(-x)); };
  const std::vector<double> h = to_doubles(t.h), d = to_doubles(t.d_gate_up);
  CHECK(h[0] == Approx(silu(2)));
  CHECK(h[1] == Approx(-2 * silu(2)));
  CHECK(h[2] == Approx(2 * silu(-9)));
  CHECK(h[3] == Approx(-2 * silu(1)));
  CHECK(std::isnan(h[4]));
  CHECK(d[0] == 0);  // beyond
  CHECK(d[1] != 0);  // at the limit
  CHECK(d[2] != 0);  // gate has no lower limit
  CHECK(d[6] != 0);  // up at the limit
  CHECK(d[7] == 0);
  CHECK(d[8] == 0);
  CHECK(std::isnan(d[4]));
}

TEST_CASE("SwiGLU gradients against central differences", "[activation][gradient]") {
  KernelBench bench;
  Tensors t = make(bench, {4, 9}, DType::kF64, Scale::kPerRow);
  t.limit = GENERATE(0.0, 1.5);
  const Tensor h = bench.poisoned(t.h.shape, DType::kF64);
  run(bench, t);
  const auto loss = [&] {
    bench.run(swiglu_forward, t.in(), h);
    double sum = 0;
    for (std::int64_t i = 0; i < h.numel(); ++i) sum += h.ptr<double>()[i] * t.dh.ptr<double>()[i];
    return sum;
  };
  CHECK(gradient_error(t.gate_up, t.d_gate_up, loss) <= 1e-8);
  CHECK(gradient_error(t.scale, t.d_scale, loss) <= 1e-8);
}

TEST_CASE("SwiGLU checks its tensors and runs on the meta device", "[activation]") {
  KernelBench bench;
  const Tensors t = make(bench, {4, 6}, DType::kF32, Scale::kPerRow);
  CHECK_THROWS_WITH(
      swiglu_forward(bench.ctx, {t.h, t.scale}, t.h),
      Catch::Matchers::ContainsSubstring("swiglu_forward: gate_up is f32 (4, 6) on cpu, wanted f32 (4, 12)"));
  CHECK_THROWS_AS(swiglu_backward(bench.ctx, t.dh, t.in(), t.d_gate_up, {}), Error);
  KernelBench meta(1, Device::kMeta);
  run(meta, make(meta, {1 << 20, 4096}, DType::kBF16, Scale::kPerRow));
  CHECK(meta.meter[WorkKind::kRow].calls == 2);
}

}  // namespace
}  // namespace jevons
