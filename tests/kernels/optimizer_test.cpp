#include "kernels/optimizer.h"

#include <numeric>

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
const std::vector<std::int64_t> kSizes = {0, 1, 3, 15, 16, 17, 100, 257, 2 * kFlatBlock + 7};
constexpr AdamW kRule{
    .lr = 0.01, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1, .grad_scale = 0.5};

OptimizerRange make(KernelBench& bench, std::int64_t n, DType compute) {
  const DType state = accumulator_of(compute);
  const auto zero = [](std::int64_t) { return 0; };
  return {bench.random({n}, state), bench.filled({n}, state, zero), bench.filled({n}, state, zero),
          bench.random({n}, state), bench.poisoned({n}, compute)};
}

// AdamW as the paper's algorithm 2 writes it, in double, one state per element.
struct Element {
  double w, m = 0, v = 0;
  void step(double g, int t) {
    m = kRule.beta1 * m + (1 - kRule.beta1) * g;
    v = kRule.beta2 * v + (1 - kRule.beta2) * g * g;
    const double m_hat = m / (1 - std::pow(kRule.beta1, t)), v_hat = v / (1 - std::pow(kRule.beta2, t));
    w -= kRule.lr * (m_hat / (std::sqrt(v_hat) + kRule.eps) + kRule.weight_decay * w);
  }
};

TEST_CASE("AdamW follows its definition over several steps and clears the gradient", "[optimizer]") {
  KernelBench bench(2);
  for (const DType compute : kFloats) {
    for (const std::int64_t n : kSizes) {
      const OptimizerRange r = make(bench, n, compute);
      std::vector<Element> want;
      for (const double w : to_doubles(r.master)) want.push_back({w});
      for (int t = 1; t <= 4; ++t) {
        test::fill(r.grad, [t](std::int64_t i) {
          return std::sin(static_cast<double>(i * t)) * std::pow(10, i % 5 - 3);
        });
        const std::vector<double> g = to_doubles(r.grad);
        for (std::size_t i = 0; i < want.size(); ++i) want[i].step(kRule.grad_scale * g[i], t);
        AdamW rule = kRule;
        rule.step = t;
        bench.run(adamw_step, rule, r);
        CHECK(to_doubles(r.grad) == std::vector<double>(static_cast<std::size_t>(n), 0.0));
      }
      std::vector<double> w, m, v;
      for (const Element& e : want) w.push_back(e.w), m.push_back(e.m), v.push_back(e.v);
      CHECK(max_error(r.master, w) <= tolerance(r.master.dtype));
      CHECK(max_error(r.moment1, m) <= tolerance(r.master.dtype));
      CHECK(max_error(r.moment2, v) <= tolerance(r.master.dtype));
      CHECK(same_bits(
          r.weight, bench.filled({n}, compute, [m = to_doubles(r.master)](std::int64_t i) { return m[i]; })));
    }
  }
}

TEST_CASE("The working weight may be the master", "[optimizer]") {
  KernelBench bench(2);
  for (const DType dtype : {DType::kF32, DType::kF64}) {
    const OptimizerRange apart = make(bench, 257, dtype);
    OptimizerRange shared{bench.clone(apart.master),
                          bench.clone(apart.moment1),
                          bench.clone(apart.moment2),
                          bench.clone(apart.grad),
                          {}};
    shared.weight = shared.master;
    const Tensor sgd_grad = bench.clone(apart.grad);
    bench.run(adamw_step, kRule, apart);
    bench.run(adamw_step, kRule, shared);
    CHECK(same_bits(apart.master, shared.master));
    shared.grad = sgd_grad;
    const Tensor before = bench.clone(shared.master), g = bench.clone(sgd_grad);
    bench.run(sgd_step, Sgd{.lr = 1, .grad_scale = 2}, shared);
    const auto w = to_doubles(before), d = to_doubles(g);
    std::vector<double> want(w.size());
    for (std::size_t i = 0; i < w.size(); ++i) want[i] = w[i] - 2 * d[i];
    CHECK(max_error(shared.weight, want) <= tolerance(dtype));
  }
}

TEST_CASE("SGD needs no moments", "[optimizer]") {
  KernelBench bench(2);
  for (const DType compute : kFloats) {
    for (const std::int64_t n : kSizes) {
      OptimizerRange r = make(bench, n, compute);
      r.moment1 = r.moment2 = {};
      std::vector<double> want = to_doubles(r.master);
      const std::vector<double> g = to_doubles(r.grad);
      for (std::size_t i = 0; i < want.size(); ++i) want[i] -= 0.1 * (0.3 * want[i] + 0.5 * g[i]);
      bench.run(sgd_step, Sgd{.lr = 0.1, .weight_decay = 0.3, .grad_scale = 0.5}, r);
      CHECK(max_error(r.master, want) <= tolerance(r.master.dtype));
      CHECK(max_error(r.weight, to_doubles(r.master)) <= tolerance(compute));
      CHECK(to_doubles(r.grad) == std::vector<double>(static_cast<std::size_t>(n), 0.0));
    }
  }
}

// As make, with moments in bf16.
OptimizerRange make_narrow(KernelBench& bench, std::int64_t n, DType compute) {
  OptimizerRange r = make(bench, n, compute);
  r.moment1 = bench.filled({n}, DType::kBF16, [](std::int64_t) { return 0; });
  r.moment2 = bench.clone(r.moment1);
  return r;
}

double bf16_of(double value) {
  return static_cast<double>(static_cast<float>(bf16(static_cast<float>(value))));
}

TEST_CASE("AdamW with moments in bf16 computes in fp32 and rounds what it keeps", "[optimizer]") {
  KernelBench bench(2);
  for (const DType compute : {DType::kF32, DType::kBF16}) {
    for (const std::int64_t n : kSizes) {
      const OptimizerRange r = make_narrow(bench, n, compute);
      std::vector<Element> want;
      for (const double w : to_doubles(r.master)) want.push_back({w});
      for (int t = 1; t <= 3; ++t) {
        test::fill(r.grad, [t](std::int64_t i) { return std::sin(static_cast<double>(i * t + 1)); });
        const std::vector<double> g = to_doubles(r.grad);
        for (std::size_t i = 0; i < want.size(); ++i) {
          want[i].step(kRule.grad_scale * g[i], t);
          want[i].m = bf16_of(want[i].m), want[i].v = bf16_of(want[i].v);
        }
        AdamW rule = kRule;
        rule.step = t;
        bench.run(adamw_step, rule, r);
      }
      std::vector<double> w, m, v;
      for (const Element& e : want) w.push_back(e.w), m.push_back(e.m), v.push_back(e.v);
      CHECK(max_error(r.moment1, m) <= tolerance(DType::kBF16));
      CHECK(max_error(r.moment2, v) <= tolerance(DType::kBF16));
      // A moment next to the middle of two numbers may be rounded the other way: one part in 256 of an
      // update.
      CHECK(max_error(r.master, w) <= 1e-4);
    }
  }
}

// The second moment of elements that have 1 and meet gradients of 0.1 from now on.
std::vector<double> second_moments(double beta2, int steps, std::optional<RandomStream> random) {
  constexpr std::int64_t kElements = 1024;
  KernelBench bench;
  OptimizerRange r = make_narrow(bench, random ? kElements : 1, DType::kF32);
  test::fill(r.moment2, [](std::int64_t) { return 1; });
  AdamW rule = kRule;
  rule.beta2 = beta2, rule.grad_scale = 1;
  for (rule.step = 1; rule.step <= steps; ++rule.step) {
    test::fill(r.grad, [](std::int64_t) { return 0.1; });
    if (random)
      r.rounding = {.random = {1, "step " + std::to_string(rule.step)}, .cols = 32, .global_cols = 32};
    bench.run(adamw_step, rule, r);
  }
  return to_doubles(r.moment2);
}

TEST_CASE("A second moment in bf16 follows a falling gradient up to beta2 0.95, above only at random",
          "[optimizer][slow]") {
  CHECK(second_moments(0.95, 200, {})[0] == Approx(0.0106).margin(5e-5));
  CHECK(second_moments(0.99, 600, {})[0] == Approx(0.016).margin(5e-4));
  CHECK(second_moments(0.999, 100, {})[0] == 1);
  constexpr int kSteps = 300;
  const std::vector<double> v = second_moments(0.999, kSteps, RandomStream(1, ""));
  // A step rounds to a multiple of 2^-8 at most: a standard deviation below 2^-9 a step and element.
  const double mean = std::accumulate(v.begin(), v.end(), 0.0) / static_cast<double>(v.size());
  const double error = std::sqrt(kSteps / static_cast<double>(v.size())) / 512;
  CHECK(mean == Approx(0.01 + 0.99 * std::pow(0.999, kSteps)).margin(4 * error));
}

TEST_CASE("Random rounding is a function of the place in the whole weight", "[optimizer]") {
  constexpr std::int64_t kRows = 50, kCols = 30, kLeft = 13;
  const RandomStream random(7, "weight");
  KernelBench bench(2);
  const OptimizerRange whole = make_narrow(bench, kRows * kCols, DType::kBF16);
  OptimizerRange r = whole;
  const std::vector<double> g = to_doubles(whole.grad);
  const auto part_of = [&](std::int64_t first_col, std::int64_t cols) {
    OptimizerRange part = make_narrow(bench, kRows * cols, DType::kBF16);
    test::fill(part.grad, [&](std::int64_t i) { return g[i / cols * kCols + first_col + i % cols]; });
    part.rounding = {.random = random, .first = first_col, .cols = cols, .global_cols = kCols};
    return part;
  };
  const OptimizerRange left = part_of(0, kLeft), right = part_of(kLeft, kCols - kLeft);
  r.rounding = {.random = random, .cols = kCols, .global_cols = kCols};
  bench.run(adamw_step, kRule, r);
  bench.run(adamw_step, kRule, left);
  for (const auto& [begin, end] :
       {std::pair<std::int64_t, std::int64_t>{0, 101}, {101, right.grad.numel()}}) {
    OptimizerRange piece{right.master.slice(begin, end),  right.moment1.slice(begin, end),
                         right.moment2.slice(begin, end), right.grad.slice(begin, end),
                         right.weight.slice(begin, end),  right.rounding};
    piece.rounding->begin = begin;
    bench.run(adamw_step, kRule, piece);
  }
  std::int64_t up = 0;
  for (std::int64_t i = 0; i < kRows * kCols; ++i) {
    const std::int64_t row = i / kCols, col = i % kCols;
    const bool is_left = col < kLeft;
    const OptimizerRange& part = is_left ? left : right;
    const std::int64_t at = is_left ? row * kLeft + col : row * (kCols - kLeft) + col - kLeft;
    for (const auto& [a, b] : {std::pair{r.moment1, part.moment1}, {r.moment2, part.moment2}})
      REQUIRE(a.ptr<bf16>()[i].bits == b.ptr<bf16>()[at].bits);
    // The first moment of a first step is one product.
    const float m = static_cast<float>(1 - kRule.beta1) * (static_cast<float>(g[i]) * 0.5f);
    const std::uint32_t draw = random.word(static_cast<std::uint64_t>(i)) & 0xffffu;
    const std::uint32_t want = (std::bit_cast<std::uint32_t>(m) + draw) >> 16;
    REQUIRE(r.moment1.ptr<bf16>()[i].bits == want);
    up += want != std::bit_cast<std::uint32_t>(m) >> 16 ? 1 : 0;
  }
  CHECK(static_cast<double>(up) / (kRows * kCols) == Approx(0.5).margin(0.05));
}

TEST_CASE("Momentum without a factor on the gradient, with and without looking ahead", "[optimizer]") {
  KernelBench bench(2);
  for (const DType kept : {DType::kF32, DType::kBF16, DType::kF64}) {
    const DType wide = accumulator_of(kept);
    for (const std::int64_t n : kSizes) {
      const bool nesterov = n % 2 == 0;
      const OptimizerRange r{.master = {},
                             .moment1 = bench.random({n}, kept),
                             .moment2 = {},
                             .grad = bench.random({n}, wide),
                             .weight = {}};
      std::vector<double> m = to_doubles(r.moment1), u = to_doubles(r.grad);
      for (std::size_t i = 0; i < m.size(); ++i) {
        const double g = 0.5 * u[i];
        m[i] = 0.9 * m[i] + g, u[i] = nesterov ? g + 0.9 * m[i] : m[i];
      }
      bench.run(momentum_step, Momentum{.momentum = 0.9, .grad_scale = 0.5, .nesterov = nesterov}, r);
      CHECK(max_error(r.moment1, m) <= tolerance(kept));
      CHECK(max_error(r.grad, u) <= tolerance(wide));
    }
  }
}

TEST_CASE("Rows of a weight are scaled in master and working weight, of any part of it", "[optimizer]") {
  KernelBench bench(2);
  for (const DType compute : kFloats) {
    constexpr std::int64_t kRows = 7, kCols = 5;
    const DType wide = accumulator_of(compute);
    const Tensor factors = bench.random({kRows}, wide), master = bench.random({kRows * kCols}, wide),
                 weight = bench.poisoned({kRows * kCols}, compute);
    std::vector<double> want = to_doubles(master);
    const std::vector<double> f = to_doubles(factors);
    for (std::size_t i = 0; i < want.size(); ++i) want[i] *= f[i / kCols];
    for (const auto& [begin, end] : {std::pair<std::int64_t, std::int64_t>{0, 13}, {13, 35}, {35, 35}})
      bench.run(scale_rows, factors, begin, kCols, master.slice(begin, end), weight.slice(begin, end));
    CHECK(max_error(master, want) <= tolerance(wide));
    CHECK(same_bits(weight, bench.filled({kRows * kCols}, compute,
                                         [m = to_doubles(master)](std::int64_t i) { return m[i]; })));
    CHECK_THROWS_WITH(scale_rows(bench.ctx, factors, 1, kCols, master, weight),
                      Catch::Matchers::ContainsSubstring("scale_rows: elements 1 to 36"));
  }
}

TEST_CASE("Optimizer: bits do not depend on threads nor on how a range is cut", "[optimizer]") {
  KernelBench bench;
  const std::int64_t n = 3 * kFlatBlock + 100;
  const OptimizerRange one = make(bench, n, DType::kBF16);
  const OptimizerRange two{bench.clone(one.master), bench.clone(one.moment1), bench.clone(one.moment2),
                           bench.clone(one.grad), bench.clone(one.weight)};
  bench.run(adamw_step, kRule, one);
  bench.ctx.threads = 3;
  for (const auto& [begin, end] : {std::pair<std::int64_t, std::int64_t>{0, 1001}, {1001, n}}) {
    bench.run(adamw_step, kRule,
              {two.master.slice(begin, end), two.moment1.slice(begin, end), two.moment2.slice(begin, end),
               two.grad.slice(begin, end), two.weight.slice(begin, end)});
  }
  CHECK(same_bits(one.master, two.master));
  CHECK(same_bits(one.moment2, two.moment2));
  CHECK(same_bits(one.weight, two.weight));
}

TEST_CASE("Optimizer checks its tensors and runs on the meta device", "[optimizer]") {
  KernelBench bench;
  const OptimizerRange r = make(bench, 8, DType::kBF16);
  OptimizerRange wrong = r;
  wrong.grad = bench.random({8}, DType::kBF16);
  CHECK_THROWS_WITH(adamw_step(bench.ctx, kRule, wrong),
                    Catch::Matchers::ContainsSubstring("adamw_step: grad is bf16 (8)"));
  wrong = r;
  wrong.moment1 = bench.random({8}, DType::kBF16);  // and moment2 f32
  CHECK_THROWS_WITH(adamw_step(bench.ctx, kRule, wrong),
                    Catch::Matchers::ContainsSubstring("moments are bf16 (8)"));
  wrong = r;
  wrong.moment2 = {};
  CHECK_THROWS_AS(adamw_step(bench.ctx, kRule, wrong), Error);
  AdamW step0 = kRule;
  step0.step = 0;
  CHECK_THROWS_AS(adamw_step(bench.ctx, step0, r), Error);
  KernelBench meta(1, Device::kMeta);
  const OptimizerRange big = make(meta, std::int64_t{1} << 40, DType::kBF16);
  adamw_step(meta.ctx, kRule, big);
  CHECK(meta.meter[WorkKind::kOptimizer].bytes == std::ldexp(8 * 4 + 2, 40));
  sgd_step(meta.ctx, {.lr = 1}, big);
  CHECK(meta.meter[WorkKind::kOptimizer].calls == 2);
}

}  // namespace
}  // namespace jevons
