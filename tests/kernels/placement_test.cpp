// Where a tensor lies does not change a bit of the result: ops on views that start at an odd address against
// ops on aligned ones.
#include "kernels/activation.h"
#include "kernels/cross_entropy.h"
#include "kernels/elementwise.h"
#include "kernels/moe/permute.h"
#include "kernels/norm.h"
#include "kernels/optimizer.h"
#include "tests/support/kernel_test.h"

namespace jevons {
namespace {

using test::KernelBench;
using test::same_bits;

constexpr DType kFloats[] = {DType::kF32, DType::kBF16, DType::kF64};
// Lengths that a GPU takes in packs, on a warp and on a block, and one that it takes element by element.
constexpr std::int64_t kCols[] = {64, 1040, 33};
constexpr std::int64_t kRows = 3;

// The tensor's elements at an address that is aligned to an element and to nothing more.
Tensor shifted(KernelBench& bench, const Tensor& t) {
  const Tensor room = bench.poisoned({t.numel() + 1}, t.dtype);
  const Tensor view = room.slice(1, room.numel()).reshape(t.shape);
  std::memcpy(view.data, t.data, t.bytes());
  return view;
}

TEST_CASE("Placement: norms", "[norm]") {
  KernelBench bench;
  for (const DType dtype : kFloats) {
    for (const std::int64_t cols : kCols) {
      INFO(name_of(dtype) << ", rows of " << cols);
      const DType sums = accumulator_of(dtype);
      const Tensor x = bench.random({kRows, cols}, dtype), dy = bench.random({kRows, cols}, dtype);
      const Tensor w = bench.random({cols}, sums), rstd = bench.poisoned({kRows}, sums);
      const Tensor y = bench.poisoned(x.shape, dtype), dx = bench.poisoned(x.shape, dtype);
      const Tensor dw = bench.random({cols}, sums);
      const Tensor odd_x = shifted(bench, x), odd_dy = shifted(bench, dy), odd_w = shifted(bench, w);
      const Tensor odd_y = shifted(bench, y), odd_dx = shifted(bench, dx), odd_dw = shifted(bench, dw);
      bench.run(rmsnorm_forward, x, w, 1e-5f, y, rstd);
      bench.run(rmsnorm_backward, dy, {x, w, rstd}, dy, dx, dw);
      bench.run(rmsnorm_forward, odd_x, odd_w, 1e-5f, odd_y, rstd);
      bench.run(rmsnorm_backward, odd_dy, {odd_x, odd_w, rstd}, odd_dy, odd_dx, odd_dw);
      CHECK(same_bits(y, odd_y));
      CHECK(same_bits(dx, odd_dx));
      CHECK(same_bits(dw, odd_dw));
    }
  }
}

TEST_CASE("Placement: SwiGLU", "[activation]") {
  KernelBench bench;
  for (const DType dtype : kFloats) {
    for (const std::int64_t cols : kCols) {
      INFO(name_of(dtype) << ", rows of " << cols);
      const DType sums = accumulator_of(dtype);
      const Tensor gate_up = bench.random({kRows, 2 * cols}, dtype), dh = bench.random({kRows, cols}, dtype);
      const Tensor scale = bench.random({kRows}, sums), d_scale = bench.poisoned({kRows}, sums);
      const Tensor h = bench.poisoned(dh.shape, dtype), d_gate_up = bench.poisoned(gate_up.shape, dtype);
      const Tensor odd = shifted(bench, gate_up), odd_h = shifted(bench, h), odd_dh = shifted(bench, dh);
      const Tensor odd_d_scale = shifted(bench, d_scale), odd_scale = shifted(bench, scale);
      bench.run(swiglu_forward, {gate_up, scale}, h);
      bench.run(swiglu_backward, dh, {gate_up, scale}, d_gate_up, d_scale);
      bench.run(swiglu_forward, {odd, odd_scale}, odd_h);
      bench.run(swiglu_backward, odd_dh, {odd, odd_scale}, odd, odd_d_scale);
      CHECK(same_bits(h, odd_h));
      CHECK(same_bits(d_gate_up, odd));
      CHECK(same_bits(d_scale, odd_d_scale));
    }
  }
}

TEST_CASE("Placement: cross-entropy", "[cross_entropy]") {
  KernelBench bench;
  for (const DType dtype : kFloats) {
    for (const std::int64_t cols : kCols) {
      INFO(name_of(dtype) << ", rows of " << cols);
      const DType sums = accumulator_of(dtype);
      const Tensor logits = bench.random({kRows, cols}, dtype), odd = shifted(bench, logits);
      const Tensor targets = bench.integers({kRows}, -1, cols), lse = bench.random({kRows}, sums);
      const Tensor stats = bench.poisoned({kRows, 3}, sums), odd_stats = shifted(bench, stats);
      bench.run(cross_entropy_stats, logits, {targets, 0}, stats);
      bench.run(cross_entropy_stats, odd, {targets, 0}, odd_stats);
      CHECK(same_bits(stats, odd_stats));
      bench.run(cross_entropy_backward, logits, {targets, 0}, lse, 2, logits);
      bench.run(cross_entropy_backward, odd, {targets, 0}, lse, 2, odd);
      CHECK(same_bits(logits, odd));
    }
  }
}

TEST_CASE("Placement: rows that are moved and summed", "[permute]") {
  KernelBench bench;
  for (const DType dtype : kFloats) {
    for (const std::int64_t cols : kCols) {
      INFO(name_of(dtype) << ", rows of " << cols);
      const Tensor x = bench.random({5, cols}, dtype), odd = shifted(bench, x);
      const Tensor index = bench.integers({kRows}, 0, 5), slots = bench.integers({kRows, 2}, 0, 5);
      const Tensor y = bench.poisoned({kRows, cols}, dtype), odd_y = shifted(bench, y);
      bench.run(gather_rows, x, index, y);
      bench.run(gather_rows, odd, index, odd_y);
      CHECK(same_bits(y, odd_y));
      bench.run(sum_rows, x, slots, y);
      bench.run(sum_rows, odd, slots, odd_y);
      CHECK(same_bits(y, odd_y));
    }
  }
}

TEST_CASE("Placement: elementwise ops and AdamW", "[optimizer][elementwise]") {
  KernelBench bench;
  for (const DType dtype : kFloats) {
    const DType sums = accumulator_of(dtype);
    const Shape all{kRows * 64};
    const auto random = [&](DType type) { return bench.random(all, type); };
    const OptimizerRange even{random(sums), random(sums), bench.filled(all, sums, [](auto) { return 0.5; }),
                              random(sums), random(dtype)};
    const OptimizerRange odd{shifted(bench, even.master), shifted(bench, even.moment1),
                             shifted(bench, even.moment2), shifted(bench, even.grad),
                             shifted(bench, even.weight)};
    const AdamW rule{.lr = 0.1, .weight_decay = 0.1, .step = 2};
    for (const OptimizerRange& range : {even, odd}) {
      bench.run(add_scaled, 0.5, range.weight, range.grad);
      bench.run(adamw_step, rule, range);
      bench.run(add, range.weight, range.weight, range.weight);
    }
    CHECK(same_bits(even.master, odd.master));
    CHECK(same_bits(even.moment2, odd.moment2));
    CHECK(same_bits(even.weight, odd.weight));
    const auto zero = [](std::int64_t) { return 0.0; };
    const Tensor even_sum = bench.filled({1}, DType::kF64, zero), odd_sum = bench.clone(even_sum);
    bench.run(add_sum_of_squares, even.weight, even_sum);
    bench.run(add_sum_of_squares, odd.weight, odd_sum);
    CHECK(same_bits(even_sum, odd_sum));
  }
}

}  // namespace
}  // namespace jevons
