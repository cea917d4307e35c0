#include "kernels/decode_attention.h"

#include <cmath>

#include "kernels/attention.h"
#include "kernels/core/error.h"
#include "tests/support/kernel_test.h"

namespace jevons {
namespace {

using test::KernelBench;
using test::max_error;
using test::same_bits;
using test::to_doubles;
using test::tolerance;

constexpr DType kFloats[] = {DType::kF32, DType::kBF16, DType::kF64};

double at(const std::vector<double>& values, const HeadView& view, std::int64_t row, std::int64_t head,
          std::int64_t i) {
  return values[static_cast<std::size_t>(row * view.base.cols() + view.first_col + head * view.pitch() + i)];
}

std::vector<double> reference(const CachePlaces& places, const DecodeAttention& op) {
  const std::vector<double> q = to_doubles(op.q.base), k = to_doubles(op.k.base), v = to_doubles(op.v.base);
  std::vector<double> o = to_doubles(op.o.base);
  for (std::int64_t b = 0; b < op.q.base.rows(); ++b) {
    const std::int64_t first = places.slots.ptr<std::int32_t>()[b] * places.capacity;
    const std::int64_t n = places.positions.ptr<std::int32_t>()[b] + 1;
    for (std::int64_t h = 0; h < op.q.heads; ++h) {
      std::vector<double> weight;
      double sum = 0;
      for (std::int64_t p = 0; p < n; ++p) {
        double dot = 0;
        for (std::int64_t i = 0; i < op.q.head_dim; ++i) {
          dot += at(q, op.q, b, h, i) * at(k, op.k, first + p, h * op.k.heads / op.q.heads, i);
        }
        sum += weight.emplace_back(std::exp(op.scale * dot));
      }
      for (std::int64_t i = 0; i < op.o.head_dim; ++i) {
        double value = 0;
        for (std::int64_t p = 0; p < n; ++p) {
          value += weight[static_cast<std::size_t>(p)] / sum *
                   at(v, op.v, first + p, h * op.v.heads / op.q.heads, i);
        }
        o[static_cast<std::size_t>(b * op.o.base.cols() + op.o.first_col + h * op.o.pitch() + i)] = value;
      }
    }
  }
  return o;
}

// Rows of sequences 2, 0, 3 of a cache of four; positions from the first to the last.
CachePlaces three_places(KernelBench& bench, std::int64_t capacity) {
  const std::vector<double> slots = {2, 0, 3}, positions = {0, static_cast<double>(capacity - 1),
                                                            static_cast<double>(capacity / 2)};
  const auto value = [](const std::vector<double>& list) {
    return [&list](std::int64_t i) { return list[static_cast<std::size_t>(i)]; };
  };
  return {bench.filled({3}, DType::kI32, value(slots)), bench.filled({3}, DType::kI32, value(positions)),
          capacity};
}

TEST_CASE("decode attention: against plain loops, grouped queries, values of another width",
          "[decode_attention]") {
  struct Sizes {
    std::int64_t heads, kv_heads, dim, v_dim;
  };
  for (const DType dtype : kFloats) {
    for (const Sizes n : {Sizes{4, 2, 8, 8}, Sizes{3, 3, 6, 10}, Sizes{4, 1, 36, 32}, Sizes{1, 1, 1, 1}}) {
      for (const std::int64_t capacity : {1, 7, 300}) {
        KernelBench bench(2);
        const CachePlaces places = three_places(bench, capacity);
        const std::int64_t k_width = n.kv_heads * n.dim, v_width = n.kv_heads * n.v_dim;
        const Tensor cache = bench.random({4 * capacity, k_width + v_width + 3}, dtype);
        const DecodeAttention op{
            .q = {bench.random({3, n.heads * (n.dim + 1) + 2}, dtype), 2, n.heads, n.dim, n.dim + 1},
            .k = {cache, 1, n.kv_heads, n.dim},
            .v = {cache, 2 + k_width, n.kv_heads, n.v_dim},
            .o = {bench.random({3, n.heads * n.v_dim + 1}, dtype), 1, n.heads, n.v_dim},
            .scale = 0.4f};
        const std::vector<double> expected = reference(places, op);
        bench.run(decode_attention, places, op);
        CHECK(max_error(op.o.base, expected) <= tolerance(dtype));
      }
    }
  }
}

TEST_CASE("decode attention: a row's bits do not depend on the other rows or the cache's size",
          "[decode_attention]") {
  KernelBench bench(2);
  const std::int64_t capacity = 50, heads = 2, dim = 16;
  const Tensor small = bench.random({capacity, 2 * dim}, DType::kF32);
  const Tensor large = bench.poisoned({3 * 80, 2 * dim}, DType::kF32);
  std::copy_n(small.ptr<float>(), small.numel(), large.slice(80, 80 + capacity).ptr<float>());
  const auto view = [&](Tensor cache, std::int64_t col) { return HeadView{cache, col, 1, dim}; };
  const Tensor q = bench.random({3, heads * dim}, DType::kF32);
  const auto run = [&](CachePlaces places, Tensor queries, Tensor cache) {
    const Tensor o = bench.poisoned(queries.shape, DType::kF32);
    bench.run(decode_attention, places,
              {.q = {queries, 0, heads, dim},
               .k = view(cache, 0),
               .v = view(cache, dim),
               .o = {o, 0, heads, dim},
               .scale = 0.25f});
    return o;
  };
  const auto ints = [&](std::vector<std::int32_t> values) {
    return bench.filled({std::ssize(values)}, DType::kI32,
                        [values](std::int64_t i) { return values[static_cast<std::size_t>(i)]; });
  };
  const Tensor alone = run({ints({0}), ints({49}), capacity}, q.slice(1, 2), small);
  const Tensor among = run({ints({1, 1, 1}), ints({3, 49, 0}), 80}, q, large);
  CHECK(same_bits(alone, among.slice(1, 2)));
}

TEST_CASE("decode attention: the last position agrees with attention over the whole sequence",
          "[decode_attention]") {
  KernelBench bench(2);
  const std::int64_t length = 70, heads = 4, kv_heads = 2, dim = 16;
  const DType dtype = GENERATE(DType::kF32, DType::kBF16, DType::kF64);
  const Tensor q = bench.random({length, heads * dim}, dtype),
               kv = bench.random({length, 2 * kv_heads * dim}, dtype);
  const HeadView k{kv, 0, kv_heads, dim}, v{kv, kv_heads * dim, kv_heads, dim};
  const Tensor all = bench.poisoned(q.shape, dtype), last = bench.poisoned({1, heads * dim}, dtype);
  const AttentionSaved saved{.q = {q, 0, heads, dim},
                             .k = k,
                             .v = v,
                             .o = {all, 0, heads, dim},
                             .doc_start = {},
                             .lse = bench.poisoned({length, heads}, accumulator_of(dtype))};
  attention_forward(bench.ctx, AttentionShape::of_sequences(1, length, 0.3f), saved);
  const Tensor slot = bench.filled({1}, DType::kI32, [](std::int64_t) { return 0; });
  const Tensor position = bench.filled({1}, DType::kI32, [&](std::int64_t) { return length - 1; });
  bench.run(decode_attention, {slot, position, length},
            {.q = {q.slice(length - 1, length), 0, heads, dim},
             .k = k,
             .v = v,
             .o = {last, 0, heads, dim},
             .scale = 0.3f});
  CHECK(max_error(last, to_doubles(all.slice(length - 1, length))) <= 2 * tolerance(dtype));
}

TEST_CASE("a cache takes rows at their places and nothing else changes", "[decode_attention]") {
  for (const DType dtype : kFloats) {
    KernelBench bench(2);
    const std::int64_t capacity = 5, heads = 2, dim = 6;
    const CachePlaces places = three_places(bench, capacity);
    const HeadView x{bench.random({3, 20}, dtype), 3, heads, dim, 8};
    const HeadView cache{bench.random({4 * capacity, 15}, dtype), 1, heads, dim, 7};
    std::vector<double> expected = to_doubles(cache.base);
    const std::vector<double> in = to_doubles(x.base);
    for (std::int64_t b = 0; b < 3; ++b) {
      const std::int64_t row =
          places.slots.ptr<std::int32_t>()[b] * capacity + places.positions.ptr<std::int32_t>()[b];
      for (std::int64_t h = 0; h < heads; ++h) {
        for (std::int64_t i = 0; i < dim; ++i) {
          expected[static_cast<std::size_t>(row * 15 + 1 + h * 7 + i)] = at(in, x, b, h, i);
        }
      }
    }
    bench.run(cache_heads, places, x, cache);
    CHECK(max_error(cache.base, expected) == 0);
  }
}

TEST_CASE("decode attention: places outside of the cache are an error", "[decode_attention]") {
  KernelBench bench;
  const HeadView x{bench.random({1, 4}, DType::kF32), 0, 1, 4};
  const HeadView cache{bench.random({6, 4}, DType::kF32), 0, 1, 4};
  const auto one = [&](double value) {
    return bench.filled({1}, DType::kI32, [=](std::int64_t) { return value; });
  };
  CHECK_THROWS_AS(cache_heads(bench.ctx, {one(2), one(0), 3}, x, cache), Error);
  CHECK_THROWS_AS(cache_heads(bench.ctx, {one(0), one(3), 3}, x, cache), Error);
  CHECK_THROWS_AS(cache_heads(bench.ctx, {one(0), one(0), 4}, x, cache), Error);
}

}  // namespace
}  // namespace jevons
