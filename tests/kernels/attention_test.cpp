// Attention against a plain reference in double that builds every score, with all its options.
#include "kernels/attention.h"

#include <cmath>
#include <limits>
#include <vector>

#include "kernels/core/error.h"
#include "kernels/cpu/attention_engine.h"
#include "tests/kernels/attention_problem.h"

namespace jevons {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

using Case = test::AttentionCase;
using Problem = test::AttentionProblem;

// Element d of head h of row t.
std::size_t at(const HeadView& view, std::int64_t t, std::int64_t h, std::int64_t d) {
  return static_cast<std::size_t>(t * view.base.cols() + view.first_col + h * view.pitch() + d);
}

// NaN where no head is.
struct Reference {
  std::vector<double> o, lse, d_qkv;
};

void clear_heads(const HeadView& view, std::vector<double>& x) {
  for (std::int64_t t = 0; t < view.base.shape[0]; ++t) {
    for (std::int64_t h = 0; h < view.heads; ++h)
      for (std::int64_t d = 0; d < view.head_dim; ++d) x[at(view, t, h, d)] = 0;
  }
}

Reference reference(const Problem& problem) {
  const Case& c = problem.c;
  const auto x = test::to_doubles(problem.qkv), d_o = test::to_doubles(problem.d_o);
  const std::vector<double> doc = c.documents ? test::to_doubles(problem.doc_start) : std::vector<double>{};
  const HeadView &q = problem.saved.q, &k = problem.saved.k, &v = problem.saved.v, &o = problem.saved.o;
  Reference r;
  r.o.assign(d_o.size(), kNan);
  r.lse.assign(static_cast<std::size_t>(problem.lse.numel()), 0);
  r.d_qkv.assign(x.size(), kNan);
  clear_heads(o, r.o);
  for (const HeadView& view : {q, k, v}) clear_heads(view, r.d_qkv);
  for (std::int64_t row = 0; row < c.q_rows(); ++row) {
    const std::int64_t first = row / c.seq * c.kv_len(), self = first + c.position(row);
    const std::int64_t begin =
        first + (c.documents ? static_cast<std::int64_t>(doc[static_cast<std::size_t>(row)]) : 0);
    for (std::int64_t h = 0; h < c.heads; ++h) {
      const std::int64_t g = h / (c.heads / c.kv_heads);
      std::vector<double> p;
      double sum = 0, delta = 0;
      for (std::int64_t j = begin; j <= self; ++j) {
        double s = 0;
        for (std::int64_t d = 0; d < c.dim; ++d) s += x[at(q, row, h, d)] * x[at(k, j, g, d)];
        p.push_back(std::exp(s * problem.shape.scale));
        sum += p.back();
      }
      r.lse[static_cast<std::size_t>(row * c.heads + h)] = std::log(sum);
      for (std::int64_t j = begin; j <= self; ++j) {
        double& pj = p[static_cast<std::size_t>(j - begin)];
        pj /= sum;
        for (std::int64_t d = 0; d < c.v_dim; ++d) {
          r.o[at(o, row, h, d)] += pj * x[at(v, j, g, d)];
          r.d_qkv[at(v, j, g, d)] += pj * d_o[at(o, row, h, d)];
          delta += pj * x[at(v, j, g, d)] * d_o[at(o, row, h, d)];
        }
      }
      for (std::int64_t j = begin; j <= self; ++j) {
        double dp = 0;
        for (std::int64_t d = 0; d < c.v_dim; ++d) dp += d_o[at(o, row, h, d)] * x[at(v, j, g, d)];
        const double ds = p[static_cast<std::size_t>(j - begin)] * (dp - delta) * problem.shape.scale;
        for (std::int64_t d = 0; d < c.dim; ++d) {
          r.d_qkv[at(q, row, h, d)] += ds * x[at(k, j, g, d)];
          r.d_qkv[at(k, j, g, d)] += ds * x[at(q, row, h, d)];
        }
      }
    }
  }
  return r;
}

const std::vector<Case> kCases = {
    {1, 1, 1, 1, 1, 1},
    {2, 13, 2, 1, 8, 8},
    {1, 31, 3, 3, 15, 33},
    {2, 33, 4, 2, 16, 24},
    {1, 64, 2, 2, 64, 64},
    {2, 100, 4, 1, 64, 32},
    {1, 161, 2, 1, 33, 31},
    {1, 256, 1, 1, 128, 128},
    {2, 45, 2, 1, 8, 8, true},
    {3, 200, 4, 2, 48, 64, true},
    {1, 97, 1, 1, 64, 64, true},
    // Heads inside wider rows: 128 + 64 with values of 128, odd sizes.
    {.batch = 1, .seq = 40, .heads = 2, .kv_heads = 2, .dim = 192, .v_dim = 128, .apart = 64},
    {.batch = 2, .seq = 35, .heads = 4, .kv_heads = 2, .dim = 7, .v_dim = 5, .documents = true, .apart = 9},
    // Queries are a run of the positions: one behind a cache, the last ones, a middle part, an empty one.
    {.batch = 3, .seq = 1, .heads = 4, .kv_heads = 2, .dim = 16, .v_dim = 8, .before = 77},
    {.batch = 2, .seq = 40, .heads = 2, .kv_heads = 1, .dim = 24, .v_dim = 24, .before = 33},
    {.batch = 2, .seq = 50, .heads = 4, .kv_heads = 2, .dim = 16, .v_dim = 32, .before = 19, .behind = 45},
    {.batch = 2,
     .seq = 70,
     .heads = 2,
     .kv_heads = 2,
     .dim = 8,
     .v_dim = 8,
     .documents = true,
     .before = 30,
     .behind = 3,
     .apart = 1},
    {.batch = 1, .seq = 20, .heads = 1, .kv_heads = 1, .dim = 8, .v_dim = 8, .behind = 100},
    {.batch = 2, .seq = 0, .heads = 2, .kv_heads = 1, .dim = 8, .v_dim = 8, .before = 5},
    // Queries in stripes: of a third of a sequence, of short runs, of runs that no panel divides.
    {.batch = 2,
     .seq = 96,
     .heads = 4,
     .kv_heads = 2,
     .dim = 16,
     .v_dim = 8,
     .before = 32,
     .behind = 32,
     .run = 32,
     .step = 96},
    {.batch = 1,
     .seq = 12,
     .heads = 2,
     .kv_heads = 1,
     .dim = 8,
     .v_dim = 24,
     .documents = true,
     .before = 4,
     .run = 2,
     .step = 6},
    {.batch = 2,
     .seq = 100,
     .heads = 2,
     .kv_heads = 2,
     .dim = 24,
     .v_dim = 24,
     .documents = true,
     .behind = 50,
     .apart = 2,
     .run = 50,
     .step = 100}};

// The largest error of what the heads hold; what belongs to none must have kept its poison.
double worst_error(const Tensor& got, const std::vector<double>& want) {
  const auto x = test::to_doubles(got);
  double worst = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    const double error = std::isnan(want[i]) ? (std::isnan(x[i]) ? 0 : 1e9)
                                             : std::abs(x[i] - want[i]) / std::max(1.0, std::abs(want[i]));
    if (!(error <= worst)) worst = std::isnan(error) ? 1e9 : error;
  }
  return worst;
}

void check_case(const Case& c, DType dtype, int threads) {
  CAPTURE(name_of(dtype), c.batch, c.seq, c.heads, c.kv_heads, c.dim, c.v_dim, c.documents, c.before,
          c.behind, c.apart, c.run, c.step, threads);
  test::KernelBench bench(threads);
  const Problem problem(bench, c, dtype);
  const Reference want = reference(problem);
  bench.run(attention_forward, problem.shape, problem.saved);
  CHECK(worst_error(problem.o, want.o) < test::attention_bound(dtype));
  CHECK(test::max_error(problem.lse, want.lse) < (dtype == DType::kF64 ? 1e-12 : 1e-5));
  bench.run(attention_backward, problem.shape, problem.saved, problem.d_o_view, problem.grads);
  CHECK(worst_error(problem.d_qkv, want.d_qkv) < test::attention_bound(dtype));
}

TEST_CASE("attention matches the reference in all its shapes", "[attention]") {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF64}) {
    for (const Case& c : kCases) check_case(c, dtype, 1 + static_cast<int>(c.seq % 2));
  }
}

TEST_CASE("attention gradients match finite differences", "[attention]") {
  for (const Case& c :
       {Case{2, 23, 4, 2, 5, 3}, Case{2, 23, 4, 2, 5, 3, true}, Case{2, 9, 4, 2, 5, 3, true, 7, 4, 2}}) {
    test::KernelBench bench;
    const Problem problem(bench, c, DType::kF64);
    const auto loss = [&] {
      problem.forward(bench.ctx);
      double sum = 0;
      for (std::int64_t i = 0; i < problem.o.numel(); ++i)
        sum += problem.o.ptr<double>()[i] * problem.d_o.ptr<double>()[i];
      return sum;
    };
    loss();
    std::memset(problem.d_qkv.data, 0, problem.d_qkv.bytes());  // the gap has no gradient
    problem.backward(bench.ctx);
    CHECK(test::gradient_error(problem.qkv, problem.d_qkv, loss) < 1e-7);
  }
}

TEST_CASE("attention's softmax survives large scores", "[attention]") {
  test::KernelBench bench;
  const Problem problem(bench, {1, 40, 1, 1, 16, 16}, DType::kF32);
  test::fill(problem.qkv, [](std::int64_t i) { return i % 7 == 0 ? 60.0 : -40.0; });
  problem.forward(bench.ctx);
  problem.backward(bench.ctx);
  for (const double x : test::to_doubles(problem.o)) REQUIRE(std::isfinite(x));
  for (const double x : test::to_doubles(problem.lse)) REQUIRE(std::isfinite(x));
  const auto gradient = test::to_doubles(problem.d_qkv);
  CHECK(std::isfinite(gradient.front()));
}

// The engine of CPUs without AVX-512, which the facade does not choose here.
TEST_CASE("portable attention agrees with the chosen one", "[attention]") {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    test::KernelBench bench;
    const Problem problem(bench, {1, 90, 2, 1, 24, 40, true, 10, 5, 3}, dtype);
    problem.forward(bench.ctx);
    problem.backward(bench.ctx);
    const auto o = test::to_doubles(problem.o), d_qkv = test::to_doubles(problem.d_qkv);
    std::memset(problem.d_qkv.data, 0xff, problem.d_qkv.bytes());
    const auto rows = [](const HeadView& view) {
      char* data = static_cast<char*>(view.base.data);
      return cpu::HeadRows{data + view.first_col * static_cast<std::int64_t>(size_of(view.base.dtype)),
                           view.base.cols(), view.pitch()};
    };
    cpu::AttentionTask task;
    task.q_len = 90, task.kv_len = 105, task.queries.first = 10;
    task.group = 2, task.dim = 24, task.v_dim = 40;
    task.scale = problem.shape.scale;
    task.doc_start = problem.doc_start.ptr<std::int32_t>();
    const AttentionSaved& s = problem.saved;
    task.q = rows(s.q), task.k = rows(s.k), task.v = rows(s.v), task.o = rows(s.o),
    task.d_o = rows(problem.d_o_view);
    task.lse = rows({s.lse, 0, 2, 1});
    task.dq = rows(problem.grads.dq), task.dk = rows(problem.grads.dk), task.dv = rows(problem.grads.dv);
    const cpu::AttentionEngine& engine = cpu::attention_engine_portable(dtype);
    engine.forward(task);
    engine.backward(task);
    CHECK(worst_error(problem.o, o) < test::attention_bound(dtype));
    CHECK(worst_error(problem.d_qkv, d_qkv) < test::attention_bound(dtype));
  }
}

TEST_CASE("attention on the meta device only counts", "[attention]") {
  test::KernelBench bench(1, Device::kMeta);
  const Problem problem(bench, {2, 10, 4, 2, 8, 16}, DType::kBF16);
  problem.forward(bench.ctx);
  CHECK(bench.meter[WorkKind::kAttention].flops == 2.0 * 2 * 55 * 4 * (8 + 16));
  const double elements = 20 * (4 * 8 + 2 * 8 + 2 * 16 + 4 * 16);
  CHECK(bench.meter[WorkKind::kAttention].bytes == 2 * elements + 4 * 20 * 4);
  bench.meter.reset();
  problem.backward(bench.ctx);
  CHECK(bench.meter[WorkKind::kAttention].flops == 2.0 * 2 * 55 * 4 * (3 * 8 + 2 * 16));
}

TEST_CASE("attention on the meta device counts the pairs of stripes", "[attention]") {
  test::KernelBench bench(1, Device::kMeta);
  const Problem problem(bench,
                        {.batch = 2,
                         .seq = 4,
                         .heads = 1,
                         .kv_heads = 1,
                         .dim = 8,
                         .v_dim = 8,
                         .before = 2,
                         .run = 2,
                         .step = 4},
                        DType::kF32);
  problem.forward(bench.ctx);
  CHECK(bench.meter[WorkKind::kAttention].flops == 2.0 * 2 * (3 + 4 + 7 + 8) * (8 + 8));
}

TEST_CASE("attention on the meta device counts the pairs that are seen", "[attention]") {
  test::KernelBench bench(1, Device::kMeta);
  const Problem problem(
      bench,
      {.batch = 2, .seq = 4, .heads = 1, .kv_heads = 1, .dim = 8, .v_dim = 8, .before = 6, .behind = 3},
      DType::kF32);
  problem.forward(bench.ctx);
  CHECK(bench.meter[WorkKind::kAttention].flops == 2.0 * 2 * (7 + 8 + 9 + 10) * (8 + 8));
  const double elements = 2 * (4 * 8 + 13 * 8 + 13 * 8 + 4 * 8 + 4);
  CHECK(bench.meter[WorkKind::kAttention].bytes == 4 * elements);
}

TEST_CASE("attention refuses what does not fit", "[attention]") {
  test::KernelBench bench;
  const Problem good(bench, {1, 8, 4, 2, 8, 8, true}, DType::kF32);
  Problem p = good;
  p.shape.q_len = p.shape.kv_len = 9;
  CHECK_THROWS_AS(p.forward(bench.ctx), Error);
  p = good, p.shape.queries.first = 1;  // a query behind the last key
  CHECK_THROWS_AS(p.forward(bench.ctx), Error);
  p = good, p.shape.kv_len = 7;
  CHECK_THROWS_AS(p.forward(bench.ctx), Error);
  p = good, p.saved.q.stride = 7;  // heads that overlap
  CHECK_THROWS_AS(p.forward(bench.ctx), Error);
  p = good, p.saved.v.stride = 9;  // the last one sticks out
  CHECK_THROWS_AS(p.forward(bench.ctx), Error);
  p = good, p.saved.k.heads = p.saved.v.heads = 3;
  CHECK_THROWS_AS(p.forward(bench.ctx), Error);
  p = good, p.saved.v.first_col += 1;
  CHECK_THROWS_AS(p.forward(bench.ctx), Error);
  p = good, p.doc_start.ptr<std::int32_t>()[2] = 3;  // a query that does not see itself
  CHECK_THROWS_AS(p.forward(bench.ctx), Error);
}

}  // namespace
}  // namespace jevons
