#include "kernels/optimizer.h"

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
    bench.run(sgd_step, 1, 2, shared);
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
      for (std::size_t i = 0; i < want.size(); ++i) want[i] -= 0.1 * 0.5 * g[i];
      bench.run(sgd_step, 0.1, 0.5, r);
      CHECK(max_error(r.master, want) <= tolerance(r.master.dtype));
      CHECK(max_error(r.weight, to_doubles(r.master)) <= tolerance(compute));
      CHECK(to_doubles(r.grad) == std::vector<double>(static_cast<std::size_t>(n), 0.0));
    }
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
  wrong.moment2 = {};
  CHECK_THROWS_AS(adamw_step(bench.ctx, kRule, wrong), Error);
  AdamW step0 = kRule;
  step0.step = 0;
  CHECK_THROWS_AS(adamw_step(bench.ctx, step0, r), Error);
  KernelBench meta(1, Device::kMeta);
  const OptimizerRange big = make(meta, std::int64_t{1} << 40, DType::kBF16);
  adamw_step(meta.ctx, kRule, big);
  CHECK(meta.meter[WorkKind::kOptimizer].bytes == std::ldexp(8 * 4 + 2, 40));
  sgd_step(meta.ctx, 1, 1, big);
  CHECK(meta.meter[WorkKind::kOptimizer].calls == 2);
}

}  // namespace
}  // namespace jevons
