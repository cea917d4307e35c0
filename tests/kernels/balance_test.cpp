// Counts and weights of the balance losses against plain loops.
#include "kernels/moe/balance.h"

#include "kernels/elementwise.h"
#include "tests/support/kernel_test.h"

namespace jevons {
namespace {

using test::KernelBench;

Tensor zeros(KernelBench& bench, Shape shape, DType dtype) {
  return bench.filled(shape, dtype, [](std::int64_t) { return 0; });
}

double element(const Tensor& t, std::int64_t i) {
  return test::to_doubles(t)[static_cast<std::size_t>(i)];
}

double share(const Tensor& load, std::int64_t first, std::int64_t i, std::int64_t experts) {
  double slots = 0;
  for (std::int64_t e = 0; e < experts; ++e) slots += element(load, first + e);
  return slots > 0 ? static_cast<double>(experts) * element(load, first + i) / slots : 0;
}

}  // namespace

TEST_CASE("counts of segments are added to a total", "[routing]") {
  KernelBench bench;
  for (const std::int64_t experts : {1, 5, 64, 130}) {
    for (const std::int64_t segments : {0, 1, 3}) {
      const Tensor counts = bench.integers({segments, experts}, 0, 1000, DType::kI64);
      const Tensor total = bench.integers({experts}, 0, 1000, DType::kI64), before = bench.clone(total);
      bench.run(add_counts, counts, total);
      for (std::int64_t e = 0; e < experts; ++e) {
        double want = element(before, e);
        for (std::int64_t s = 0; s < segments; ++s) want += element(counts, s * experts + e);
        CHECK(element(total, e) == want);
      }
    }
  }
}

TEST_CASE("sums of columns are added in double", "[elementwise]") {
  KernelBench bench;
  for (const DType dtype : {DType::kF32, DType::kF64}) {
    for (const std::int64_t rows : {0, 1, 33, 2500}) {
      const Tensor x = bench.random({rows, 3}, dtype), y = bench.random({3}, DType::kF64),
                   before = bench.clone(y);
      bench.run(add_column_sums, 0.25, x, y);
      for (std::int64_t c = 0; c < 3; ++c) {
        double want = 0;
        for (std::int64_t r = 0; r < rows; ++r) want += element(x, r * 3 + c);
        CHECK(element(y, c) == Approx(element(before, c) + 0.25 * want).margin(1e-12));
      }
    }
  }
}

TEST_CASE("balance weights and losses against plain loops", "[routing]") {
  KernelBench bench;
  const DType dtype = GENERATE(DType::kF32, DType::kF64);
  const std::int64_t experts = GENERATE(1, 6, 200), segments = GENERATE(1, 3);
  const BalanceLoads loads{.sequence = bench.integers({segments, experts}, 0, 9, DType::kI64),
                           .micro_batch = zeros(bench, {experts}, DType::kI64),  // no slots: weight 0
                           .global = bench.integers({experts}, 1, 9, DType::kI64)};
  if (segments > 1) add_counts(bench.ctx, loads.sequence, loads.micro_batch);
  const BalanceFactors w{
      .per_row = 0.1, .per_sequence_row = 0.3, .micro_batch = 2, .sequence = 3, .global = 5};
  const Tensor score_sums = bench.random({segments, experts}, dtype);
  const Tensor coefficient = bench.poisoned({segments, experts}, dtype);
  const Tensor values = bench.filled({3}, DType::kF64, [](std::int64_t i) { return i; });
  bench.run(balance_weights, loads, w, score_sums, coefficient, values);

  double losses[] = {0, 1, 2};
  for (std::int64_t s = 0; s < segments; ++s) {
    for (std::int64_t e = 0; e < experts; ++e) {
      const double micro = w.per_row * share(loads.micro_batch, 0, e, experts),
                   sequence = w.per_sequence_row * share(loads.sequence, s * experts, e, experts),
                   global = w.per_row * share(loads.global, 0, e, experts);
      const double p = element(score_sums, s * experts + e);
      losses[0] += micro * p, losses[1] += sequence * p, losses[2] += global * p;
      CHECK(element(coefficient, s * experts + e) ==
            Approx(w.micro_batch * micro + w.sequence * sequence + w.global * global).epsilon(1e-6));
    }
  }
  for (std::int64_t i = 0; i < 3; ++i) CHECK(element(values, i) == Approx(losses[i]).margin(1e-12));
}

}  // namespace jevons
