#include "kernels/next_tokens.h"

#include <cmath>
#include <limits>
#include <vector>

#include "kernels/core/error.h"
#include "tests/support/kernel_test.h"

namespace jevons {
namespace {

using test::KernelBench;
using test::to_doubles;

std::vector<std::int32_t> ints(const Tensor& t) {
  return {t.span<std::int32_t>().begin(), t.span<std::int32_t>().end()};
}

Tensor of(KernelBench& bench, const std::vector<double>& values, DType dtype = DType::kI32) {
  return bench.filled({std::ssize(values)}, dtype,
                      [&](std::int64_t i) { return values[static_cast<std::size_t>(i)]; });
}

TEST_CASE("look_ahead: two sequences of five, by hand", "[next_tokens][embedding]") {
  KernelBench bench;
  const Tensor tokens = of(bench, {1, 2, 3, 4, 5, 11, 12, 13, 14, 15});
  const Tensor targets = of(bench, {2, -1, 4, 5, 6, 12, 13, -1, 15, 16});
  // The second sequence has a second document from its position 3 on, whose border masks a target.
  const Tensor doc_start = of(bench, {0, 0, 0, 0, 0, 0, 0, 0, 3, 3});
  const Tensor ids = bench.poisoned({10}, DType::kI32), ahead = bench.poisoned({10}, DType::kI32);

  bench.run(look_ahead, {tokens, targets, doc_start}, {.length = 5, .by = 1}, ids, ahead);
  CHECK(ints(ids) == std::vector<std::int32_t>{2, 3, 4, 5, 5, 12, 13, 14, 15, 15});
  CHECK(ints(ahead) == std::vector<std::int32_t>{-1, 4, 5, 6, -1, 13, -1, -1, 16, -1});

  bench.run(look_ahead, {tokens, targets, doc_start}, {.length = 5, .by = 2}, ids, ahead);
  CHECK(ints(ids) == std::vector<std::int32_t>{3, 4, 5, 4, 5, 13, 14, 15, 14, 15});
  CHECK(ints(ahead) == std::vector<std::int32_t>{4, 5, 6, -1, -1, -1, -1, -1, -1, -1});

  bench.run(look_ahead, {tokens, targets, {}}, {.length = 5, .by = 2}, ids, ahead);
  CHECK(ints(ahead) == std::vector<std::int32_t>{4, 5, 6, -1, -1, -1, 15, 16, -1, -1});

  bench.run(look_ahead, {tokens, targets, {}}, {.length = 5, .by = 7}, ids, ahead);
  CHECK(ints(ids) == ints(tokens));
  CHECK(ints(ahead) == std::vector<std::int32_t>(10, -1));
}

TEST_CASE("look_ahead: the count on the host is that of the rows", "[next_tokens][embedding]") {
  KernelBench bench(2);
  for (const std::int64_t length : {1, 7, 64, 1000}) {
    const std::int64_t rows = 3 * length;
    const Tensor tokens = bench.integers({rows}, 0, 50), targets = bench.integers({rows}, -1, 3);
    // Documents of 1 to 9 tokens.
    std::vector<double> start;
    for (std::int64_t t = 0, begin = 0; t < rows; ++t) {
      const std::int64_t position = t % length;
      if (position == 0 || position - begin > t % 9) begin = position;
      start.push_back(static_cast<double>(begin));
    }
    for (const Tensor& doc_start : {Tensor{}, of(bench, start)}) {
      for (const std::int64_t by : {1, 2, 5}) {
        const Tensor ids = bench.poisoned({rows}, DType::kI32), ahead = bench.poisoned({rows}, DType::kI32);
        bench.run(look_ahead, {tokens, targets, doc_start}, {length, by}, ids, ahead);
        std::int64_t count = 0;
        for (std::int64_t t = 0; t < rows; ++t) {
          const std::int64_t position = t % length;
          std::int32_t id = tokens.ptr<std::int32_t>()[t], target = -1;
          if (position + by < length) {
            id = tokens.ptr<std::int32_t>()[t + by];
            const bool same = !doc_start.defined() ||
                              doc_start.ptr<std::int32_t>()[t + by] <= doc_start.ptr<std::int32_t>()[t];
            if (same) target = targets.ptr<std::int32_t>()[t + by];
          }
          REQUIRE(ids.ptr<std::int32_t>()[t] == id);
          REQUIRE(ahead.ptr<std::int32_t>()[t] == target);
          count += target >= 0 ? 1 : 0;
        }
        std::span<const std::int32_t> starts;
        if (doc_start.defined()) starts = doc_start.span<std::int32_t>();
        CHECK(count_targets_ahead(targets.span<std::int32_t>(), starts, {length, by}) == count);
      }
    }
  }
}

TEST_CASE("best_tokens: the likeliest token, whole and in parts", "[next_tokens][cross_entropy]") {
  KernelBench bench(2);
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF64}) {
    for (const std::int64_t rows : {0, 1, 9}) {
      for (const std::int64_t cols : {4, 12, 388, 2052}) {
        const Tensor logits = bench.random({rows, cols}, dtype);
        for (std::int64_t r = 0; r < rows; ++r) {  // ties
          const Tensor row = logits.slice(r, r + 1).reshape({cols});
          const double top = r % 2 == 0 ? 9 : -9;
          const Tensor value = of(bench, {top}, dtype);
          for (const std::int64_t at : {cols / 2, cols - 1, (r * 7) % cols})
            std::memcpy(row.slice(at, at + 1).data, value.data, value.bytes());
        }
        const DType sums = accumulator_of(dtype);
        const std::int64_t parts = 4, width = cols / parts;
        const Tensor whole = bench.poisoned({1, rows, 2}, sums),
                     split = bench.poisoned({parts, rows, 2}, sums);
        bench.run(best_tokens, logits, 0, whole.reshape({rows, 2}));
        for (std::int64_t p = 0; p < parts; ++p) {
          const Tensor part = bench.poisoned({rows, width}, dtype);
          const std::size_t bytes = static_cast<std::size_t>(width) * size_of(dtype);
          for (std::int64_t r = 0; r < rows; ++r) {
            std::memcpy(
                part.slice(r, r + 1).data,
                static_cast<std::uint8_t*>(logits.slice(r, r + 1).data) + static_cast<std::size_t>(p) * bytes,
                bytes);
          }
          bench.run(best_tokens, part, p * width, split.slice(p, p + 1).reshape({rows, 2}));
        }
        const Tensor tokens = bench.poisoned({rows}, DType::kI32),
                     joined = bench.poisoned({rows}, DType::kI32);
        bench.run(best_of_parts, whole, tokens);
        bench.run(best_of_parts, split, joined);
        for (std::int64_t r = 0; r < rows; ++r) {
          const std::vector<double> row = to_doubles(logits.slice(r, r + 1));
          const auto want = std::max_element(row.begin(), row.end()) - row.begin();
          REQUIRE(tokens.ptr<std::int32_t>()[r] == want);
          REQUIRE(joined.ptr<std::int32_t>()[r] == want);
        }
      }
    }
  }
}

TEST_CASE("best_tokens: NaN is no choice", "[next_tokens][cross_entropy]") {
  KernelBench bench;
  const double nan = std::nan("");
  const Tensor logits = of(bench, {nan, -3, nan, -2, nan, nan, nan, nan}, DType::kF32).reshape({2, 4});
  const Tensor best = bench.poisoned({1, 2, 2}, DType::kF32), tokens = bench.poisoned({2}, DType::kI32);
  bench.run(best_tokens, logits, 10, best.reshape({2, 2}));
  bench.run(best_of_parts, best, tokens);
  CHECK(ints(tokens) == std::vector<std::int32_t>{13, -1});
}

TEST_CASE("agreement: with the model's choice one row later", "[next_tokens][embedding]") {
  KernelBench bench;
  const Tensor model = of(bench, {7, 1, 2, 3, 7, 4, 5, 6}), ahead = of(bench, {1, 9, 3, 7, 4, 5, -1, 6});
  const Tensor targets = of(bench, {0, 0, -1, -1, 3, 0, 0, -1}), agrees = bench.poisoned({8}, DType::kF32);
  bench.run(agreement, {model, ahead, targets}, {.length = 4, .by = 1}, agrees);
  CHECK(to_doubles(agrees) == std::vector<double>{1, 0, 0, 0, 1, 1, 0, 0});
}

TEST_CASE("next tokens: wrong tensors are refused, the meta device counts", "[next_tokens]") {
  KernelBench bench;
  const Tensor rows = bench.integers({6}, 0, 3);
  CHECK_THROWS_WITH(look_ahead(bench.ctx, {rows, rows, {}}, {.length = 4, .by = 1}, rows, rows),
                    Catch::Matchers::ContainsSubstring("6 rows, sequences of 4"));
  CHECK_THROWS_AS(best_of_parts(bench.ctx, bench.random({1, 5, 2}, DType::kF32), rows), Error);
  KernelBench meta(1, Device::kMeta);
  const Tensor big = meta.integers({1 << 20}, 0, 3);
  look_ahead(meta.ctx, {big, big, big}, {.length = 4096, .by = 1}, big, big);
  CHECK(meta.meter[WorkKind::kRow].bytes == Approx(5.0 * 4 * (1 << 20)));
}

}  // namespace
}  // namespace jevons
