#include "kernels/embedding.h"

#include "kernels/core/error.h"
#include "kernels/elementwise.h"
#include "tests/support/kernel_test.h"

namespace jevons {
namespace {

using test::KernelBench;
using test::max_error;
using test::same_bits;
using test::to_doubles;
using test::tolerance;

constexpr DType kFloats[] = {DType::kF32, DType::kBF16, DType::kF64};
constexpr std::int64_t kCols[] = {1, 3, 15, 16, 17, 100, 257, 2048};

TEST_CASE("Embedding: rows of the slice, 0 outside of it", "[embedding]") {
  KernelBench bench(2);
  constexpr std::int64_t kVocab = 11, kBegin = 20;
  for (const DType dtype : kFloats) {
    for (const std::int64_t cols : kCols) {
      for (const std::int64_t tokens : {0, 1, 130}) {
        const Tensor ids = bench.integers({tokens}, kBegin - 5, kBegin + kVocab + 5);
        const Tensor table = bench.random({kVocab, cols}, dtype), y = bench.poisoned({tokens, cols}, dtype);
        bench.run(embedding_forward, ids, table, kBegin, y);
        for (std::int64_t t = 0; t < tokens; ++t) {
          const std::int64_t row = ids.ptr<std::int32_t>()[t] - kBegin;
          const Tensor got = y.slice(t, t + 1);
          if (row >= 0 && row < kVocab) {
            REQUIRE(same_bits(got, table.slice(row, row + 1)));
          } else {
            REQUIRE(to_doubles(got) == std::vector<double>(static_cast<std::size_t>(cols), 0.0));
          }
        }
      }
    }
  }
}

TEST_CASE("Embedding backward adds to the gradient in token order", "[embedding]") {
  KernelBench bench(2);
  constexpr std::int64_t kVocab = 11, kBegin = 20;
  for (const DType dtype : kFloats) {
    for (const std::int64_t cols : kCols) {
      for (const std::int64_t tokens : {0, 1, 130}) {
        const DType sums = accumulator_of(dtype);
        const Tensor ids = bench.integers({tokens}, kBegin - 5, kBegin + kVocab + 5);
        const Tensor dy = bench.random({tokens, cols}, dtype), d_table = bench.random({kVocab, cols}, sums);
        const Tensor want = bench.clone(d_table), other = bench.clone(d_table);
        const auto add_in_order = [&](auto* sum) {
          for (std::int64_t t = 0; t < tokens; ++t) {
            const std::int64_t row = ids.ptr<std::int32_t>()[t] - kBegin;
            for (std::int64_t i = 0; i < cols && row >= 0 && row < kVocab; ++i) {
              sum[row * cols + i] += to_doubles(dy.slice(t, t + 1).reshape({cols}).slice(i, i + 1))[0];
            }
          }
        };
        sums == DType::kF64 ? add_in_order(want.ptr<double>()) : add_in_order(want.ptr<float>());
        bench.run(embedding_backward, dy, ids, kBegin, d_table);
        CHECK(same_bits(d_table, want));
        bench.ctx.threads = 1;
        bench.run(embedding_backward, dy, ids, kBegin, other);
        bench.ctx.threads = 2;
        CHECK(same_bits(d_table, other));
      }
    }
  }
}

TEST_CASE("Embedding backward: an id of most tokens, others of one", "[embedding]") {
  KernelBench bench;
  constexpr std::int64_t kTokens = 150, kCols = 300;
  const Tensor dy = bench.random({kTokens, kCols}, DType::kF32), sums = bench.random({8, kCols}, DType::kF32);
  const Tensor ids = bench.filled(
      {kTokens}, DType::kI32, [](std::int64_t t) { return t % 25 == 7 ? static_cast<double>(t / 25) : 6.0; });
  const Tensor want = bench.clone(sums);
  for (std::int64_t t = 0; t < kTokens; ++t) {
    float* const row = want.ptr<float>() + ids.ptr<std::int32_t>()[t] * kCols;
    for (std::int64_t i = 0; i < kCols; ++i) row[i] += dy.ptr<float>()[t * kCols + i];
  }
  bench.run(embedding_backward, dy, ids, 0, sums);
  CHECK(same_bits(sums, want));
}

TEST_CASE("Slices of the vocabulary give the whole embedding", "[embedding]") {
  KernelBench bench(2);
  const Tensor ids = bench.integers({64}, 0, 12), table = bench.random({12, 17}, DType::kF32);
  const Tensor dy = bench.random({64, 17}, DType::kF32), whole = bench.poisoned({64, 17}, DType::kF32);
  const Tensor d_whole = bench.random({12, 17}, DType::kF32), d_parts = bench.clone(d_whole);
  bench.run(embedding_forward, ids, table, 0, whole);
  bench.run(embedding_backward, dy, ids, 0, d_whole);
  const Tensor sum = bench.filled({64, 17}, DType::kF32, [](std::int64_t) { return 0; });
  for (const std::int64_t begin : {0, 4, 8}) {
    const Tensor part = bench.poisoned({64, 17}, DType::kF32);
    bench.run(embedding_forward, ids, table.slice(begin, begin + 4), begin, part);
    bench.run(add, sum, part, sum);
    bench.run(embedding_backward, dy, ids, begin, d_parts.slice(begin, begin + 4));
  }
  CHECK(same_bits(sum, whole));
  CHECK(same_bits(d_parts, d_whole));
}

TEST_CASE("Embedding checks its tensors and runs on the meta device", "[embedding]") {
  KernelBench bench;
  const Tensor ids = bench.integers({4}, 0, 3), table = bench.random({3, 6}, DType::kF32);
  const Tensor y = bench.poisoned({4, 6}, DType::kF32);
  CHECK_THROWS_WITH(embedding_forward(bench.ctx, ids, table, 0, bench.poisoned({5, 6}, DType::kF32)),
                    Catch::Matchers::ContainsSubstring("embedding_forward: y is f32 (5, 6)"));
  CHECK_THROWS_AS(embedding_forward(bench.ctx, y, table, 0, y), Error);
  CHECK_THROWS_AS(embedding_backward(bench.ctx, y, ids, 0, bench.random({3, 6}, DType::kBF16)), Error);
  KernelBench meta(1, Device::kMeta);
  const Tensor tokens = meta.integers({1 << 20}, 0, 2), big = meta.random({1 << 20, 4096}, DType::kBF16);
  embedding_forward(meta.ctx, tokens, meta.random({128000, 4096}, DType::kBF16), 0, big);
  embedding_backward(meta.ctx, big, tokens, 0, meta.random({128000, 4096}, DType::kF32));
  CHECK(meta.meter[WorkKind::kRow].calls == 2);
}

}  // namespace
}  // namespace jevons
