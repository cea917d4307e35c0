// Attention against a plain reference in double that builds every score, with all its options.
#include "kernels/attention.h"

#include <cmath>
#include <vector>

#include "kernels/core/error.h"
#include "kernels/cpu/attention_engine.h"
#include "tests/support/kernel_test.h"

namespace jevons {
namespace {

struct Case {
  std::int64_t batch, seq, heads, kv_heads, dim, v_dim;
  bool documents = false;
};

// q, k and v lie in one fused matrix with a gap between them, as do their gradients.
struct Problem {
  Case c;
  AttentionShape shape;
  Tensor qkv, o, lse, d_o, d_qkv, doc_start;
  AttentionSaved saved;
  AttentionGrads grads;
  HeadView d_o_view;

  Problem(test::KernelBench& bench, const Case& which, DType dtype) : c(which) {
    const std::int64_t rows = c.batch * c.seq, gap = 3;
    const std::int64_t k_col = c.heads * c.dim + gap, v_col = k_col + c.kv_heads * c.dim;
    const std::int64_t columns = v_col + c.kv_heads * c.v_dim;
    shape = {c.batch, c.seq, static_cast<float>(1 / std::sqrt(static_cast<double>(c.dim)))};
    qkv = bench.random({rows, columns}, dtype);
    d_o = bench.random({rows, c.heads * c.v_dim}, dtype);
    o = bench.poisoned({rows, c.heads * c.v_dim}, dtype);
    lse = bench.poisoned({rows, c.heads}, accumulator_of(dtype));
    d_qkv = bench.poisoned({rows, columns}, dtype);
    if (c.documents) {
      doc_start = bench.filled({rows}, DType::kI32, [&](std::int64_t row) {
        const std::int64_t t = row % c.seq, borders[] = {0, 1, 20, 39, 40, 77, 150};
        std::int64_t begin = 0;
        for (const std::int64_t border : borders)
          begin = border + row / c.seq <= t ? border + row / c.seq : begin;
        return begin;
      });
    }
    const auto views = [&](Tensor base) {
      return AttentionGrads{
          {base, 0, c.heads, c.dim}, {base, k_col, c.kv_heads, c.dim}, {base, v_col, c.kv_heads, c.v_dim}};
    };
    const AttentionGrads in = views(qkv);
    grads = views(d_qkv);
    saved = {in.dq, in.dk, in.dv, {o, 0, c.heads, c.v_dim}, doc_start, lse};
    d_o_view = {d_o, 0, c.heads, c.v_dim};
  }
  void forward(const Context& ctx) const {
    attention_forward(ctx, shape, saved.q, saved.k, saved.v, doc_start, saved.o, lse);
  }
  void backward(const Context& ctx) const { attention_backward(ctx, shape, saved, d_o_view, grads); }
};

// Element d of head h of row t.
std::size_t at(const HeadView& view, std::int64_t t, std::int64_t h, std::int64_t d) {
  return static_cast<std::size_t>(t * view.base.cols() + view.first_col + h * view.head_dim + d);
}

struct Reference {
  std::vector<double> o, lse, d_qkv;
};

// `upstream`: gradient of o. The columns that belong to no head stay NaN.
Reference reference(const Problem& problem) {
  const Case& c = problem.c;
  const auto x = test::to_doubles(problem.qkv), d_o = test::to_doubles(problem.d_o);
  const std::vector<double> doc = c.documents ? test::to_doubles(problem.doc_start) : std::vector<double>{};
  const HeadView &q = problem.saved.q, &k = problem.saved.k, &v = problem.saved.v, &o = problem.saved.o;
  Reference r;
  r.o.assign(d_o.size(), 0);
  r.lse.assign(static_cast<std::size_t>(problem.lse.numel()), 0);
  r.d_qkv.assign(x.size(), 0);
  for (std::int64_t row = 0; row < c.batch * c.seq; ++row) {
    const std::int64_t t = row % c.seq, first = row - t;
    const std::int64_t begin =
        first + (c.documents ? static_cast<std::int64_t>(doc[static_cast<std::size_t>(row)]) : 0);
    for (std::int64_t h = 0; h < c.heads; ++h) {
      const std::int64_t g = h / (c.heads / c.kv_heads);
      std::vector<double> p;
      double sum = 0, delta = 0;
      for (std::int64_t j = begin; j <= row; ++j) {
        double s = 0;
        for (std::int64_t d = 0; d < c.dim; ++d) s += x[at(q, row, h, d)] * x[at(k, j, g, d)];
        p.push_back(std::exp(s * problem.shape.scale));
        sum += p.back();
      }
      r.lse[static_cast<std::size_t>(row * c.heads + h)] = std::log(sum);
      for (std::int64_t j = begin; j <= row; ++j) {
        double& pj = p[static_cast<std::size_t>(j - begin)];
        pj /= sum;
        for (std::int64_t d = 0; d < c.v_dim; ++d) {
          r.o[at(o, row, h, d)] += pj * x[at(v, j, g, d)];
          r.d_qkv[at(v, j, g, d)] += pj * d_o[at(o, row, h, d)];
          delta += pj * x[at(v, j, g, d)] * d_o[at(o, row, h, d)];
        }
      }
      for (std::int64_t j = begin; j <= row; ++j) {
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

double bound(DType dtype) {
  return dtype == DType::kF64 ? 1e-12 : dtype == DType::kF32 ? 1e-5 : 0.025;
}

const std::vector<Case> kCases = {
    {1, 1, 1, 1, 1, 1},           {2, 13, 2, 1, 8, 8},        {1, 31, 3, 3, 15, 33},
    {2, 33, 4, 2, 16, 24},        {1, 64, 2, 2, 64, 64},      {2, 100, 4, 1, 64, 32},
    {1, 161, 2, 1, 33, 31},       {1, 256, 1, 1, 128, 128},   {2, 45, 2, 1, 8, 8, true},
    {3, 200, 4, 2, 48, 64, true}, {1, 97, 1, 1, 64, 64, true}};

void check_case(const Case& c, DType dtype, int threads) {
  CAPTURE(name_of(dtype), c.batch, c.seq, c.heads, c.kv_heads, c.dim, c.v_dim, c.documents, threads);
  test::KernelBench bench(threads);
  const Problem problem(bench, c, dtype);
  const Reference want = reference(problem);
  problem.forward(bench.ctx);
  CHECK(test::max_error(problem.o, want.o) < bound(dtype));
  CHECK(test::max_error(problem.lse, want.lse) < (dtype == DType::kF64 ? 1e-12 : 1e-5));
  problem.backward(bench.ctx);
  // The gap between q and k belongs to nobody and keeps its poison.
  const auto got = test::to_doubles(problem.d_qkv);
  double worst = 0;
  for (std::int64_t row = 0; row < c.batch * c.seq; ++row) {
    for (std::int64_t column = 0; column < problem.qkv.cols(); ++column) {
      const auto i = static_cast<std::size_t>(row * problem.qkv.cols() + column);
      const std::int64_t q_columns = c.heads * c.dim;
      if (column >= q_columns && column < q_columns + 3) {
        if (!std::isnan(got[i])) worst = 1e9;
      } else {
        const double error = std::abs(got[i] - want.d_qkv[i]) / std::max(1.0, std::abs(want.d_qkv[i]));
        if (!(error <= worst)) worst = std::isnan(error) ? 1e9 : error;
      }
    }
  }
  CHECK(worst < bound(dtype));
}

TEST_CASE("attention matches the reference in all its shapes", "[attention]") {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF64}) {
    for (const Case& c : kCases) check_case(c, dtype, 1 + static_cast<int>(c.seq % 2));
  }
}

TEST_CASE("attention gradients match finite differences", "[attention]") {
  for (const bool documents : {false, true}) {
    test::KernelBench bench;
    const Problem problem(bench, {2, 23, 4, 2, 5, 3, documents}, DType::kF64);
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

TEST_CASE("attention of a sequence does not depend on the others or on the threads", "[attention]") {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const bool documents : {false, true}) {
      test::KernelBench bench, two(2);
      const Problem all(bench, {3, 70, 4, 2, 32, 32, documents}, dtype);
      all.forward(bench.ctx);
      all.backward(bench.ctx);
      const Tensor o = bench.clone(all.o), lse = bench.clone(all.lse), d_qkv = bench.clone(all.d_qkv);
      std::memset(all.o.data, 0xff, all.o.bytes());
      std::memset(all.d_qkv.data, 0xff, all.d_qkv.bytes());
      all.forward(two.ctx);
      all.backward(two.ctx);
      CHECK(test::same_bits(all.o, o));
      CHECK(test::same_bits(all.lse, lse));
      CHECK(test::same_bits(all.d_qkv, d_qkv));

      // The middle sequence alone.
      std::memset(all.o.data, 0xff, all.o.bytes());
      std::memset(all.d_qkv.data, 0xff, all.d_qkv.bytes());
      const auto middle = [](HeadView view) {
        view.base = view.base.slice(70, 140);
        return view;
      };
      const AttentionShape shape{1, 70, all.shape.scale};
      const Tensor doc = documents ? all.doc_start.slice(70, 140) : Tensor{};
      const AttentionSaved& s = all.saved;
      const AttentionSaved alone{middle(s.q), middle(s.k), middle(s.v),
                                 middle(s.o), doc,         s.lse.slice(70, 140)};
      attention_forward(bench.ctx, shape, alone.q, alone.k, alone.v, doc, alone.o, alone.lse);
      attention_backward(bench.ctx, shape, alone, middle(all.d_o_view),
                         {middle(all.grads.dq), middle(all.grads.dk), middle(all.grads.dv)});
      CHECK(test::same_bits(all.o.slice(70, 140), o.slice(70, 140)));
      CHECK(test::same_bits(all.d_qkv.slice(70, 140), d_qkv.slice(70, 140)));
    }
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
    const Problem problem(bench, {1, 90, 2, 1, 24, 40, true}, dtype);
    problem.forward(bench.ctx);
    problem.backward(bench.ctx);
    const Tensor o = bench.clone(problem.o), d_qkv = bench.clone(problem.d_qkv);
    std::memset(problem.d_qkv.data, 0xff, problem.d_qkv.bytes());
    const auto rows = [](const HeadView& view) {
      char* data = static_cast<char*>(view.base.data);
      return cpu::HeadRows{data + view.first_col * static_cast<std::int64_t>(size_of(view.base.dtype)),
                           view.base.cols()};
    };
    cpu::AttentionTask task;
    task.seq = 90, task.group = 2, task.dim = 24, task.v_dim = 40;
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
    CHECK(test::max_error(problem.o, test::to_doubles(o)) < bound(dtype));
    CHECK(test::max_error(problem.d_qkv, test::to_doubles(d_qkv)) < bound(dtype));
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

TEST_CASE("attention refuses what does not fit", "[attention]") {
  test::KernelBench bench;
  const Problem good(bench, {1, 8, 4, 2, 8, 8, true}, DType::kF32);
  Problem p = good;
  p.shape.seq = 9;
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
