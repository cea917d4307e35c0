// Sums in rank order against plain loops.
#include "kernels/ordered_sum.h"

#include <vector>

#include "kernels/core/error.h"
#include "tests/support/kernel_test.h"

namespace jevons {
namespace {

double combined(ReduceOp op, double a, double b) {
  if (op == ReduceOp::kSum) return a + b;
  return op == ReduceOp::kMax ? std::max(a, b) : std::min(a, b);
}

// Small whole numbers: every sum is exact in every type.
void check(ReduceOp op, DType dtype, int count, std::int64_t n) {
  CAPTURE(static_cast<int>(op), name_of(dtype), count, n);
  test::KernelBench bench;
  std::vector<Tensor> parts;
  std::vector<const void*> addresses;
  std::vector<double> want;
  for (int r = 0; r < count; ++r) {
    parts.push_back(bench.filled(
        {n}, dtype, [r](std::int64_t i) { return static_cast<double>((i * 7 + r * 5) % 23 - 11); }));
    addresses.push_back(parts.back().data);
    const auto values = test::to_doubles(parts.back());
    if (r == 0) want = values;
    for (std::size_t i = 0; r > 0 && i < want.size(); ++i) want[i] = combined(op, want[i], values[i]);
  }
  const Tensor out = bench.poisoned({n}, dtype);
  reduce_in_rank_order(op, dtype, addresses, n, out.data);
  CHECK(test::to_doubles(out) == want);
  reduce_in_rank_order(op, dtype, addresses, n, parts.back().data);  // in place
  CHECK(test::to_doubles(parts.back()) == want);
}

TEST_CASE("sums in rank order match plain loops", "[ordered_sum]") {
  for (const ReduceOp op : {ReduceOp::kSum, ReduceOp::kMax, ReduceOp::kMin}) {
    for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF64, DType::kI32, DType::kI64}) {
      for (const int count : {1, 2, 3, 9}) {
        for (const std::int64_t n : {0, 1, 33, 1024, 2500}) check(op, dtype, count, n);
      }
    }
  }
}

TEST_CASE("sums in rank order are made in the accumulator type and rounded once", "[ordered_sum]") {
  const bf16 parts[3] = {bf16(256.0f), bf16(0.5f), bf16(0.5f)};  // 257 is no bf16; 256.5 would be lost
  const void* const addresses[3] = {parts, parts + 1, parts + 2};
  float exact = 256.0f + 0.5f + 0.5f;
  bf16 out;
  reduce_in_rank_order(ReduceOp::kSum, DType::kBF16, addresses, 1, &out);
  CHECK(out.bits == bf16(exact).bits);
  const float ordered[3] = {1e8f, -1e8f, 1.0f};
  const void* const in_order[3] = {ordered, ordered + 1, ordered + 2};
  float sum = 0;
  reduce_in_rank_order(ReduceOp::kSum, DType::kF32, in_order, 1, &sum);
  CHECK(sum == 1.0f);
  CHECK_THROWS_AS(reduce_in_rank_order(ReduceOp::kSum, DType::kU8, in_order, 1, &sum), Error);
}

}  // namespace
}  // namespace jevons
