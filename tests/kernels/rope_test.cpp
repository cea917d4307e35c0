#include "kernels/rope.h"

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
constexpr double kTheta = 10000;
constexpr std::int64_t kPositions = 40;

struct Tables {
  Tables(KernelBench& bench, std::int64_t dim, DType dtype) {
    const auto angle = [half = dim / 2](std::int64_t i) {
      const double turn = static_cast<double>(i % half) / static_cast<double>(half);
      return static_cast<double>(i / half) * std::pow(kTheta, -turn);
    };
    const Shape shape{kPositions, dim / 2};
    cos = bench.filled(shape, accumulator_of(dtype), [&](std::int64_t i) { return std::cos(angle(i)); });
    sin = bench.filled(shape, accumulator_of(dtype), [&](std::int64_t i) { return std::sin(angle(i)); });
  }
  Rotation at(const Tensor& positions, RopeLayout layout = RopeLayout::kHalf) const {
    return {positions, cos, sin, layout};
  }
  Tensor cos, sin;
};

// Every element of x.base rotated by its position's angle, the rest as it is.
std::vector<double> rotated(const HeadView& x, const Tensor& positions, RopeLayout layout, double direction) {
  std::vector<double> out = to_doubles(x.base);
  const std::int64_t half = x.head_dim / 2;
  for (std::int64_t t = 0; t < x.base.shape[0]; ++t) {
    for (std::int64_t h = 0; h < x.heads; ++h) {
      for (std::int64_t i = 0; i < half; ++i) {
        const double angle =
            direction * positions.ptr<std::int32_t>()[t] *
            std::pow(kTheta, -2.0 * static_cast<double>(i) / static_cast<double>(x.head_dim));
        const bool halves = layout == RopeLayout::kHalf;
        const auto low =
            static_cast<std::size_t>(t * x.base.cols() + x.first_col + h * x.pitch() + (halves ? i : 2 * i));
        const std::size_t high = low + static_cast<std::size_t>(halves ? half : 1);
        const double a = out[low], b = out[high];
        out[low] = a * std::cos(angle) - b * std::sin(angle);
        out[high] = b * std::cos(angle) + a * std::sin(angle);
      }
    }
  }
  return out;
}

TEST_CASE("RoPE rotates the pairs of the heads and nothing else", "[rope]") {
  const RopeLayout layout = GENERATE(RopeLayout::kHalf, RopeLayout::kInterleaved);
  KernelBench bench(2);
  for (const DType dtype : kFloats) {
    for (const std::int64_t dim : {2, 6, 16, 34, 64}) {
      const Tables tables(bench, dim, dtype);
      for (const std::int64_t tokens : {0, 1, 5, 300}) {
        // Side by side, or the first columns of wider heads.
        const HeadView x{bench.random({tokens, 3 * dim + 9}, dtype), 5, 3, dim, tokens == 5 ? 0 : dim + 2};
        const Tensor positions = bench.integers({tokens}, 0, kPositions);
        const Rotation by = tables.at(positions, layout);
        const std::vector<double> forward = rotated(x, positions, layout, 1);
        bench.run(rope_forward, x, by);
        CHECK(max_error(x.base, forward) <= tolerance(dtype));
        const std::vector<double> back = rotated(x, positions, layout, -1);
        bench.run(rope_backward, x, by);
        CHECK(max_error(x.base, back) <= tolerance(dtype));
      }
    }
  }
}

TEST_CASE("RoPE: the score of two positions depends on their distance only", "[rope]") {
  const RopeLayout layout = GENERATE(RopeLayout::kHalf, RopeLayout::kInterleaved);
  KernelBench bench;
  const Tables tables(bench, 16, DType::kF64);
  const Tensor q = bench.random({1, 16}, DType::kF64), k = bench.random({1, 16}, DType::kF64);
  const auto score = [&](int at_q, int at_k) {
    const Tensor a = bench.clone(q), b = bench.clone(k);
    const auto position = [&](int p) {
      return bench.filled({1}, DType::kI32, [p](std::int64_t) { return p; });
    };
    bench.run(rope_forward, {a, 0, 1, 16}, tables.at(position(at_q), layout));
    bench.run(rope_forward, {b, 0, 1, 16}, tables.at(position(at_k), layout));
    double sum = 0;
    for (int i = 0; i < 16; ++i) sum += a.ptr<double>()[i] * b.ptr<double>()[i];
    return sum;
  };
  CHECK(score(7, 3) == Approx(score(30, 26)).epsilon(1e-12));
  CHECK(score(7, 3) != Approx(score(3, 7)).epsilon(1e-6));
}

TEST_CASE("RoPE gradient against central differences", "[rope][gradient]") {
  const RopeLayout layout = GENERATE(RopeLayout::kHalf, RopeLayout::kInterleaved);
  KernelBench bench;
  const Tables tables(bench, 6, DType::kF64);
  const Tensor x = bench.random({4, 12}, DType::kF64), dy = bench.random({4, 12}, DType::kF64);
  const Tensor positions = bench.integers({4}, 1, kPositions), dx = bench.clone(dy);
  bench.run(rope_backward, {dx, 0, 2, 6}, tables.at(positions, layout));
  const auto loss = [&] {
    const Tensor y = bench.clone(x);
    bench.run(rope_forward, {y, 0, 2, 6}, tables.at(positions, layout));
    double sum = 0;
    for (std::int64_t i = 0; i < y.numel(); ++i) sum += y.ptr<double>()[i] * dy.ptr<double>()[i];
    return sum;
  };
  CHECK(gradient_error(x, dx, loss) <= 1e-8);
}

TEST_CASE("RoPE: bits do not depend on threads nor on the other rows", "[rope]") {
  const RopeLayout layout = GENERATE(RopeLayout::kHalf, RopeLayout::kInterleaved);
  KernelBench bench;
  const Tables tables(bench, 34, DType::kBF16);
  const Tensor one = bench.random({500, 68}, DType::kBF16), two = bench.clone(one),
               alone = bench.clone(one.slice(71, 72));
  const Tensor positions = bench.integers({500}, 0, kPositions);
  bench.run(rope_forward, {one, 0, 2, 34}, tables.at(positions, layout));
  bench.ctx.threads = 3;
  bench.run(rope_forward, {two, 0, 2, 34}, tables.at(positions, layout));
  bench.run(rope_forward, {alone, 0, 2, 34}, tables.at(positions.slice(71, 72), layout));
  CHECK(same_bits(one, two));
  CHECK(same_bits(alone, one.slice(71, 72)));
}

TEST_CASE("RoPE checks its tensors and runs on the meta device", "[rope]") {
  KernelBench bench;
  const Tables tables(bench, 6, DType::kF32);
  const Tensor x = bench.random({4, 12}, DType::kF32), positions = bench.integers({4}, 0, 3);
  CHECK_THROWS_WITH(rope_forward(bench.ctx, {x, 0, 4, 3}, tables.at(positions)),
                    Catch::Matchers::ContainsSubstring("rope_forward: head_dim is 3, wanted an even number"));
  CHECK_THROWS_AS(rope_forward(bench.ctx, {x, 0, 3, 4}, tables.at(positions)), Error);
  CHECK_THROWS_AS(rope_backward(bench.ctx, {x, 2, 2, 6}, tables.at(positions)), Error);
  KernelBench meta(1, Device::kMeta);
  const Tables big(meta, 128, DType::kBF16);
  const HeadView heads{meta.random({1 << 20, 8192}, DType::kBF16), 0, 64, 128};
  rope_forward(meta.ctx, heads, big.at(meta.integers({1 << 20}, 0, 2)));
  CHECK(meta.meter[WorkKind::kRow].calls == 1);
}

}  // namespace
}  // namespace jevons
