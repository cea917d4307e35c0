// What of attention's bits does not depend on what else is computed: on other sequences, threads, or queries.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/moe/permute.h"
#include "kernels/stripes.h"
#include "tests/kernels/attention_problem.h"

namespace jevons {
namespace {

using Problem = test::AttentionProblem;

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
      const auto shape = AttentionShape::of_sequences(1, 70, all.shape.scale);
      const Tensor doc = documents ? all.doc_start.slice(70, 140) : Tensor{};
      const AttentionSaved& s = all.saved;
      const AttentionSaved alone{middle(s.q), middle(s.k), middle(s.v),
                                 middle(s.o), doc,         s.lse.slice(70, 140)};
      attention_forward(bench.ctx, shape, alone);
      attention_backward(bench.ctx, shape, alone, middle(all.d_o_view),
                         {middle(all.grads.dq), middle(all.grads.dk), middle(all.grads.dv)});
      CHECK(test::same_bits(all.o.slice(70, 140), o.slice(70, 140)));
      CHECK(test::same_bits(all.d_qkv.slice(70, 140), d_qkv.slice(70, 140)));
    }
  }
}

// What one rank of several computes, which has a run of the queries and all keys.
TEST_CASE("queries of a part of a sequence give the bits of the whole", "[attention]") {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF64}) {
    for (const bool documents : {false, true}) {
      test::KernelBench bench;
      const Problem all(bench, {1, 96, 4, 2, 32, 16, documents}, dtype);
      all.forward(bench.ctx);
      all.backward(bench.ctx);
      const Tensor o = bench.clone(all.o), lse = bench.clone(all.lse), d_qkv = bench.clone(all.d_qkv);
      for (const std::int64_t begin : {0, 32, 64}) {
        const auto part = [begin](Tensor t) { return t.defined() ? t.slice(begin, begin + 32) : t; };
        const auto queries = [part](HeadView view) {
          view.base = part(view.base);
          return view;
        };
        const AttentionSaved& s = all.saved;
        const AttentionSaved here{queries(s.q), s.k, s.v, queries(s.o), part(s.doc_start), part(s.lse)};
        const AttentionShape shape{1, 32, 96, {.first = begin}, all.shape.scale};
        for (const Tensor& t : {all.o, all.lse, all.d_qkv}) std::memset(t.data, 0xff, t.bytes());
        attention_forward(bench.ctx, shape, here);
        CHECK(test::same_bits(part(all.o), part(o)));
        CHECK(test::same_bits(part(all.lse), part(lse)));
        attention_backward(bench.ctx, shape, here, queries(all.d_o_view),
                           {queries(all.grads.dq), all.grads.dk, all.grads.dv});
        const auto got = test::to_doubles(all.d_qkv), want = test::to_doubles(d_qkv);
        for (std::int64_t row = begin; row < begin + 32; ++row) {
          for (std::int64_t column = 0; column < 4 * 32; ++column) {
            const auto i = static_cast<std::size_t>(row * all.qkv.cols() + column);
            REQUIRE(got[i] == want[i]);
          }
        }
      }
    }
  }
}

// What one rank of several computes that share sequences in stripes: its queries' part of everything is that
// of the whole by bit, and the parts of the keys' gradients add up.
TEST_CASE("queries dealt in stripes give the bits of the whole", "[attention]") {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF64}) {
    for (const bool documents : {false, true}) {
      CAPTURE(name_of(dtype), documents);
      test::KernelBench bench;
      constexpr std::int64_t kBatch = 2, kLength = 192, kHeads = 4, kDim = 32;
      const Problem all(bench, {kBatch, kLength, kHeads, 2, kDim, 16, documents}, dtype);
      all.forward(bench.ctx);
      all.backward(bench.ctx);
      const Stripes stripes{kLength, 3, 32};
      const std::int64_t rows = kBatch * kLength / stripes.parts;
      const Tensor dealt = bench.poisoned({kBatch * kLength}, DType::kI32),
                   joined = bench.poisoned(dealt.shape, DType::kI32);
      stripe_order(bench.ctx, stripes, dealt, joined);
      std::vector<double> sum(static_cast<std::size_t>(all.d_qkv.numel()));
      for (std::int64_t part = 0; part < stripes.parts; ++part) {
        const Tensor mine = dealt.slice(part * rows, (part + 1) * rows);
        const auto own = [&](const Tensor& t) {
          const Tensor y = bench.poisoned({rows, t.cols()}, t.dtype);
          gather_rows(bench.ctx, t, mine, y);
          return y;
        };
        const auto heads_of = [&](HeadView view, const Tensor& base) {
          view.base = base;
          return view;
        };
        const AttentionSaved& s = all.saved;
        const Tensor o = bench.poisoned({rows, all.o.cols()}, dtype),
                     lse = bench.poisoned({rows, kHeads}, all.lse.dtype);
        const Tensor d_q = bench.poisoned({rows, all.qkv.cols()}, dtype),
                     d_kv = bench.poisoned(all.d_qkv.shape, dtype);
        Tensor doc;
        if (documents) doc = own(all.doc_start.reshape({kBatch * kLength, 1})).reshape({rows});
        const AttentionSaved here{heads_of(s.q, own(all.qkv)), s.k, s.v, heads_of(s.o, o), doc, lse};
        const AttentionShape shape{kBatch, stripes.local_length(), kLength, stripes.of(part),
                                   all.shape.scale};
        attention_forward(bench.ctx, shape, here);
        attention_backward(
            bench.ctx, shape, here, heads_of(s.o, own(all.d_o)),
            {heads_of(all.grads.dq, d_q), heads_of(all.grads.dk, d_kv), heads_of(all.grads.dv, d_kv)});
        CHECK(test::same_bits(o, own(all.o)));
        CHECK(test::same_bits(lse, own(all.lse)));
        const auto dq = test::to_doubles(d_q), want_dq = test::to_doubles(own(all.d_qkv)),
                   dkv = test::to_doubles(d_kv);
        std::int64_t different = 0;
        for (std::int64_t row = 0; row < rows; ++row) {
          for (std::int64_t column = 0; column < kHeads * kDim; ++column) {
            const auto i = static_cast<std::size_t>(row * all.qkv.cols() + column);
            different += dq[i] == want_dq[i] ? 0 : 1;
          }
        }
        CHECK(different == 0);
        for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += dkv[i];
      }
      // The columns of the queries and the gap hold poison, which is no number.
      const auto whole = test::to_doubles(all.d_qkv);
      double worst = 0;
      for (std::size_t i = 0; i < sum.size(); ++i) {
        if (std::isnan(sum[i])) continue;
        worst = std::max(worst, std::abs(sum[i] - whole[i]) / std::max(1.0, std::abs(whole[i])));
      }
      CHECK(worst < test::attention_bound(dtype));
    }
  }
}

}  // namespace
}  // namespace jevons
