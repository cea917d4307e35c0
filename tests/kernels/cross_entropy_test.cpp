#include "kernels/cross_entropy.h"

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
struct Size {
  std::int64_t rows, vocab;
};
const Size kSizes[] = {{0, 8},  {1, 1},     {2, 3},    {3, 15},   {1, 16},
                       {5, 17}, {130, 100}, {65, 257}, {3, 1101}, {5, 2048}};

// What the op computes for one set of logits, vocabulary split into parts [cut[p], cut[p + 1]).
struct Result {
  Tensor loss, lse;
  std::vector<Tensor> dlogits;  // one per part
};

Tensor columns(KernelBench& bench, const Tensor& x, std::int64_t begin, std::int64_t end) {
  return bench.filled({x.shape[0], end - begin}, x.dtype, [&, v = to_doubles(x)](std::int64_t i) {
    return v[static_cast<std::size_t>(i / (end - begin) * x.cols() + begin + i % (end - begin))];
  });
}

Result run(KernelBench& bench, const Tensor& logits, const Tensor& targets,
           const std::vector<std::int64_t>& cut, double scale) {
  const std::int64_t rows = logits.shape[0], parts = static_cast<std::int64_t>(cut.size()) - 1;
  const DType sums = accumulator_of(logits.dtype);
  const Tensor gathered = bench.poisoned({parts, rows, 3}, sums);
  Result out{bench.poisoned({rows}, sums), bench.poisoned({rows}, sums), {}};
  for (std::int64_t p = 0; p < parts; ++p) {
    out.dlogits.push_back(columns(bench, logits, cut[p], cut[p + 1]));
    bench.run(cross_entropy_stats, out.dlogits.back(), {targets, cut[p]},
              gathered.slice(p, p + 1).reshape({rows, 3}));
  }
  bench.run(cross_entropy_combine, gathered, targets, out.loss, out.lse);
  for (std::int64_t p = 0; p < parts; ++p) {
    const Tensor& x = out.dlogits[p];
    bench.run(cross_entropy_backward, x, {targets, cut[p]}, out.lse, scale, x);
  }
  return out;
}

struct Reference {
  std::vector<double> loss, lse, dlogits;
};

Reference reference(const Tensor& logits, const Tensor& targets, double scale) {
  const auto x = to_doubles(logits);
  const auto rows = static_cast<std::size_t>(logits.shape[0]),
             vocab = static_cast<std::size_t>(logits.shape[1]);
  Reference out{std::vector<double>(rows), std::vector<double>(rows), std::vector<double>(x.size())};
  for (std::size_t t = 0; t < rows; ++t) {
    const std::int32_t target = targets.ptr<std::int32_t>()[t];
    const double largest = *std::max_element(&x[t * vocab], &x[t * vocab] + vocab);
    double sum = 0;
    for (std::size_t i = 0; i < vocab; ++i) sum += std::exp(x[t * vocab + i] - largest);
    out.lse[t] = largest + std::log(sum);
    if (target < 0) continue;
    out.loss[t] = out.lse[t] - x[t * vocab + static_cast<std::size_t>(target)];
    for (std::size_t i = 0; i < vocab; ++i) {
      const double onehot = i == static_cast<std::size_t>(target) ? 1 : 0;
      out.dlogits[t * vocab + i] = scale * (std::exp(x[t * vocab + i] - out.lse[t]) - onehot);
    }
  }
  return out;
}

TEST_CASE("Cross-entropy against fp64 loops, masked targets included", "[cross_entropy]") {
  KernelBench bench(2);
  for (const DType dtype : kFloats) {
    for (const Size size : kSizes) {
      INFO(name_of(dtype) << " " << size.rows << " x " << size.vocab);
      const Tensor logits = bench.random({size.rows, size.vocab}, dtype, 5);
      const Tensor targets = bench.integers({size.rows}, -1, size.vocab);
      const Reference want = reference(logits, targets, 0.25);
      const Result got = run(bench, logits, targets, {0, size.vocab}, 0.25);
      CHECK(max_error(got.loss, want.loss) <= tolerance(got.loss.dtype));
      CHECK(max_error(got.lse, want.lse) <= tolerance(got.lse.dtype));
      CHECK(max_error(got.dlogits[0], want.dlogits) <= tolerance(dtype));
      const Tensor apart = bench.poisoned(logits.shape, dtype);
      bench.run(cross_entropy_backward, logits, {targets, 0}, got.lse, 0.25, apart);
      CHECK(same_bits(apart, got.dlogits[0]));
    }
  }
}

TEST_CASE("Cross-entropy of a split vocabulary is that of the whole", "[cross_entropy]") {
  KernelBench bench(2);
  const std::vector<std::vector<std::int64_t>> cuts = {
      {0, 100}, {0, 50, 100}, {0, 25, 50, 75, 100}, {0, 1, 1, 97, 100}};
  for (const DType dtype : kFloats) {
    const Tensor logits = bench.random({40, 100}, dtype, 5), targets = bench.integers({40}, -1, 100);
    const Reference want = reference(logits, targets, 2);
    for (const auto& cut : cuts) {
      const Result got = run(bench, logits, targets, cut, 2);
      CHECK(max_error(got.loss, want.loss) <= tolerance(got.loss.dtype));
      for (std::size_t p = 0; p + 1 < cut.size(); ++p) {
        std::vector<double> part;
        for (std::int64_t t = 0; t < 40; ++t) {
          for (std::int64_t i = cut[p]; i < cut[p + 1]; ++i) part.push_back(want.dlogits[t * 100 + i]);
        }
        CHECK(max_error(got.dlogits[p], part) <= tolerance(dtype));
      }
    }
  }
}

TEST_CASE("Cross-entropy at extreme logits", "[cross_entropy]") {
  KernelBench bench;
  const double inf = std::numeric_limits<double>::infinity();
  // Rows: huge but finite; all equal; excluded entries at -inf, first part without any finite logit; a NaN.
  const double rows[4][4] = {
      {3e4, -3e4, 0, 2.9e4}, {7, 7, 7, 7}, {-inf, -inf, 1, 2}, {0, std::nan(""), 1, 2}};
  for (const DType dtype : kFloats) {
    const Tensor logits = bench.filled({4, 4}, dtype, [&](std::int64_t i) { return rows[i / 4][i % 4]; });
    const Tensor targets = bench.filled({4}, DType::kI32, [](std::int64_t) { return 3; });
    for (const std::vector<std::int64_t>& cut : {std::vector<std::int64_t>{0, 4}, {0, 2, 4}}) {
      const Result got = run(bench, logits, targets, cut, 1);
      const std::vector<double> loss = to_doubles(got.loss);
      CHECK(loss[0] == Approx(to_doubles(logits)[0] - to_doubles(logits)[3]));
      CHECK(loss[1] == Approx(std::log(4.0)));
      CHECK(loss[2] == Approx(std::log(1 + std::exp(-1.0))));
      CHECK(std::isnan(loss[3]));
      CHECK(to_doubles(got.dlogits[0])[static_cast<std::size_t>(2 * (cut[1] - cut[0]))] == 0);
    }
  }
}

TEST_CASE("Cross-entropy gradient against central differences, 1, 2 and 4 parts",
          "[cross_entropy][gradient]") {
  KernelBench bench;
  const Tensor logits = bench.random({3, 8}, DType::kF64, 2);
  const Tensor targets =
      bench.filled({3}, DType::kI32, [](std::int64_t i) { return i == 1 ? -1 : 5 * i / 2; });
  for (const std::vector<std::int64_t>& cut : {std::vector<std::int64_t>{0, 8}, {0, 4, 8}, {0, 2, 4, 6, 8}}) {
    const auto loss = [&] {
      double sum = 0;
      for (const double v : to_doubles(run(bench, logits, targets, cut, 1).loss)) sum += 0.7 * v;
      return sum;
    };
    const Result got = run(bench, logits, targets, cut, 0.7);
    const Tensor whole = bench.poisoned({3, 8}, DType::kF64);
    for (std::size_t p = 0; p + 1 < cut.size(); ++p) {
      const std::vector<double> part = to_doubles(got.dlogits[p]);
      const std::int64_t width = cut[p + 1] - cut[p];
      for (std::int64_t i = 0; i < 3 * width; ++i) {
        whole.ptr<double>()[i / width * 8 + cut[p] + i % width] = part[static_cast<std::size_t>(i)];
      }
    }
    CHECK(gradient_error(logits, whole, loss) <= 1e-8);
  }
}

TEST_CASE("Cross-entropy: bits do not depend on threads nor on the other rows", "[cross_entropy]") {
  KernelBench bench;
  for (const DType dtype : kFloats) {
    const Tensor logits = bench.random({300, 257}, dtype, 5), targets = bench.integers({300}, 0, 257);
    const Result one = run(bench, logits, targets, {0, 257}, 1);
    const Result alone = run(bench, logits.slice(71, 72), targets.slice(71, 72), {0, 257}, 1);
    bench.ctx.threads = 3;
    const Result two = run(bench, logits, targets, {0, 257}, 1);
    bench.ctx.threads = 1;
    CHECK(same_bits(one.loss, two.loss));
    CHECK(same_bits(one.dlogits[0], two.dlogits[0]));
    CHECK(same_bits(alone.loss, one.loss.slice(71, 72)));
    CHECK(same_bits(alone.dlogits[0], one.dlogits[0].slice(71, 72)));
  }
}

TEST_CASE("Cross-entropy checks its tensors and runs on the meta device", "[cross_entropy]") {
  KernelBench bench;
  const Tensor logits = bench.random({4, 6}, DType::kBF16), targets = bench.integers({4}, 0, 6);
  CHECK_THROWS_WITH(
      cross_entropy_stats(bench.ctx, logits, {targets, 0}, bench.poisoned({4, 3}, DType::kBF16)),
      Catch::Matchers::ContainsSubstring("cross_entropy_stats: stats is bf16 (4, 3)"));
  const Tensor none = bench.poisoned({0, 4, 3}, DType::kF32), loss = bench.poisoned({4}, DType::kF32);
  CHECK_THROWS_AS(cross_entropy_combine(bench.ctx, none, targets, loss, loss), Error);
  CHECK_THROWS_AS(cross_entropy_backward(bench.ctx, logits, {loss, 0}, loss, 1, logits), Error);
  KernelBench meta(1, Device::kMeta);
  const Tensor big = meta.random({1 << 20, 128000}, DType::kBF16), ids = meta.integers({1 << 20}, 0, 2);
  const Tensor stats = meta.random({1, 1 << 20, 3}, DType::kF32), lse = meta.random({1 << 20}, DType::kF32);
  cross_entropy_stats(meta.ctx, big, {ids, 0}, stats.reshape({1 << 20, 3}));
  cross_entropy_combine(meta.ctx, stats, ids, lse, lse);
  cross_entropy_backward(meta.ctx, big, {ids, 0}, lse, 1, big);
  CHECK(meta.meter[WorkKind::kRow].calls == 3);
}

}  // namespace
}  // namespace jevons
