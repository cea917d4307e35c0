// Orthogonalisation by products, against what it does to each singular value by itself: matrices are made of
// known singular values and reflections, so that nothing has to be decomposed.
#include "trainer/optim/newton_schulz.h"

#include <cmath>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/kernel_test.h"

namespace jevons::test {
namespace {

// (n, m), row by row, in double.
struct Matrix {
  std::int64_t n, m;
  std::vector<double> v = std::vector<double>(static_cast<std::size_t>(n * m));
  double& at(std::int64_t i, std::int64_t j) { return v[static_cast<std::size_t>(i * m + j)]; }
};

// Three Householder reflections of each side, which undo themselves in the other order.
enum class Order { kThere, kBack };
void reflect(Matrix& a, Order order) {
  for (int k = 0; k < 3; ++k) {
    const int which = order == Order::kThere ? k : 2 - k;
    const RandomStream random(5, "reflection " + std::to_string(which));
    std::vector<double> rows(static_cast<std::size_t>(a.n)), cols(static_cast<std::size_t>(a.m));
    const auto unit = [&](std::vector<double>& u, std::uint64_t from) {
      double squares = 0;
      for (std::size_t i = 0; i < u.size(); ++i) u[i] = random.normal(from + i), squares += u[i] * u[i];
      for (double& x : u) x /= std::sqrt(squares);
    };
    unit(rows, 0), unit(cols, 1000);
    for (std::int64_t j = 0; j < a.m; ++j) {
      double dot = 0;
      for (std::int64_t i = 0; i < a.n; ++i) dot += rows[static_cast<std::size_t>(i)] * a.at(i, j);
      for (std::int64_t i = 0; i < a.n; ++i) a.at(i, j) -= 2 * dot * rows[static_cast<std::size_t>(i)];
    }
    for (std::int64_t i = 0; i < a.n; ++i) {
      double dot = 0;
      for (std::int64_t j = 0; j < a.m; ++j) dot += cols[static_cast<std::size_t>(j)] * a.at(i, j);
      for (std::int64_t j = 0; j < a.m; ++j) a.at(i, j) -= 2 * dot * cols[static_cast<std::size_t>(j)];
    }
  }
}

// What the iterations make of a singular value, relative to the norm.
double mapped(double x, NewtonSchulz iterations) {
  const int steep = iterations == NewtonSchulz::kFive ? 5 : 8,
            exact = iterations == NewtonSchulz::kFive ? 0 : 2;
  for (int i = 0; i < steep; ++i) x = 3.4445 * x - 4.7750 * std::pow(x, 3) + 2.0315 * std::pow(x, 5);
  for (int i = 0; i < exact; ++i) x = 2 * x - 1.5 * std::pow(x, 3) + 0.5 * std::pow(x, 5);
  return x;
}

// Of singular values from 1 down to 10^-decades of it: the values that orthogonalise() leaves, as the
// diagonal of what the reflections give back, and the largest element beside it.
struct Outcome {
  std::vector<double> before, after;  // before: relative to the norm
  double beside = 0, flops = 0;
};
Outcome outcome_of(std::int64_t n, std::int64_t m, DType products, NewtonSchulz iterations, double decades) {
  const std::int64_t k = std::min(n, m);
  Matrix a{n, m};
  double squares = 0;
  for (std::int64_t i = 0; i < k; ++i) {
    a.at(i, i) = std::pow(
        10, -decades * static_cast<double>(i) / static_cast<double>(std::max<std::int64_t>(1, k - 1)));
    squares += a.at(i, i) * a.at(i, i);
  }
  Outcome outcome;
  for (std::int64_t i = 0; i < k; ++i) outcome.before.push_back(a.at(i, i) / (std::sqrt(squares) + 1e-7));
  reflect(a, Order::kThere);
  KernelBench bench(2);
  bench.ctx.compute = products;
  const Tensor u = bench.filled({n, m}, accumulator_of(products),
                                [&](std::int64_t i) { return a.v[static_cast<std::size_t>(i)]; });
  constexpr double kScale = 0.25;
  orthogonalise(bench.ctx, iterations, kScale, u);
  outcome.flops = bench.meter.total_flops();
  a.v = to_doubles(u);
  reflect(a, Order::kBack);
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < m; ++j) {
      if (i == j) outcome.after.push_back(a.at(i, j) / kScale);
      if (i != j) outcome.beside = std::max(outcome.beside, std::abs(a.at(i, j)) / kScale);
    }
  }
  return outcome;
}

}  // namespace

TEST_CASE("Newton-Schulz maps every singular value by itself, from either side", "[muon]") {
  struct Shapes {
    std::int64_t n, m;
  };
  for (const auto& [n, m] : {Shapes{24, 24}, {24, 40}, {40, 24}, {1, 30}, {30, 1}, {17, 64}}) {
    for (const NewtonSchulz iterations : {NewtonSchulz::kFive, NewtonSchulz::kEightAndTwo}) {
      for (const DType products : {DType::kF64, DType::kF32}) {
        const Outcome o = outcome_of(n, m, products, iterations, 3);
        INFO(n << " x " << m << ", " << name_of(products));
        // The products' rounding grows like a small singular value does: 3.4445 a step.
        const double bound = products == DType::kF64 ? 1e-9 : 2e-2;
        CHECK(o.beside < bound);
        for (std::size_t i = 0; i < o.before.size(); ++i)
          CHECK(std::abs(o.after[i] - mapped(o.before[i], iterations)) < bound);
        const auto k = static_cast<double>(std::min(n, m)), l = static_cast<double>(std::max(n, m));
        CHECK(o.flops == (iterations == NewtonSchulz::kFive ? 5 : 10) * (4 * k * k * l + 2 * k * k * k));
      }
    }
  }
}

TEST_CASE("Newton-Schulz: five steps bring values above 0.0011 near 1, ten those above 7e-6", "[muon]") {
  const Outcome five = outcome_of(60, 80, DType::kF64, NewtonSchulz::kFive, 5);
  const Outcome ten = outcome_of(60, 80, DType::kF64, NewtonSchulz::kEightAndTwo, 6);
  int near = 0, far = 0;
  for (std::size_t i = 0; i < five.before.size(); ++i) {
    INFO(five.before[i]);
    near += five.before[i] > 1.1e-3 ? 1 : 0, far += five.before[i] < 0.9e-3 ? 1 : 0;
    if (five.before[i] > 1.1e-3) CHECK((five.after[i] >= 0.50 && five.after[i] <= 1.20));
    if (five.before[i] < 0.9e-3) CHECK(five.after[i] < 0.50);
  }
  CHECK(near > 20);
  CHECK(far > 20);
  for (std::size_t i = 0; i < ten.before.size(); ++i) {
    INFO(ten.before[i]);
    if (ten.before[i] > 7e-6) CHECK((ten.after[i] >= 0.50 && ten.after[i] <= 1.002));
    if (ten.before[i] < 5e-6) CHECK(ten.after[i] < 0.50);
  }
  // With products in bf16, of a matrix that is not far from full rank.
  for (const double value : outcome_of(64, 96, DType::kBF16, NewtonSchulz::kEightAndTwo, 1.5).after)
    CHECK(std::abs(value - 1) < 0.02);
  for (const double value : outcome_of(96, 64, DType::kBF16, NewtonSchulz::kFive, 1.5).after)
    CHECK((value > 0.6 && value < 1.25));
}

TEST_CASE("Newton-Schulz: zero stays, a wrong dtype is named, the meta device counts", "[muon]") {
  KernelBench bench;
  bench.ctx.compute = DType::kBF16;
  const Tensor zero = bench.filled({8, 4}, DType::kF32, [](std::int64_t) { return 0; });
  orthogonalise(bench.ctx, NewtonSchulz::kEightAndTwo, 1, zero);
  CHECK(to_doubles(zero) == std::vector<double>(32, 0.0));
  CHECK_THROWS_WITH(orthogonalise(bench.ctx, NewtonSchulz::kFive, 1, bench.random({8, 4}, DType::kBF16)),
                    Catch::Matchers::ContainsSubstring("orthogonalise: bf16 (8, 4)"));
  KernelBench meta(1, Device::kMeta);
  meta.ctx.compute = DType::kBF16;
  orthogonalise(meta.ctx, NewtonSchulz::kFive, 1, meta.random({7168, 2048}, DType::kF32));
  CHECK(meta.meter[WorkKind::kGemm].flops == 5 * (4 * 2048.0 * 2048 * 7168 + 2 * std::pow(2048.0, 3)));
}

}  // namespace jevons::test
