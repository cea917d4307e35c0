// A call of attention on random numbers, with all its options: what the tests of its kernels share.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/attention.h"
#include "tests/support/kernel_test.h"

namespace jevons::test {

struct AttentionCase {
  std::int64_t batch, seq, heads, kv_heads, dim, v_dim;  // seq: queries
  bool documents = false;
  std::int64_t before = 0, behind = 0;   // keys before the first query and behind the last
  std::int64_t apart = 0;                // columns between heads
  std::int64_t run = 1 << 30, step = 0;  // of the queries' positions

  Positions queries() const { return {before, run, step}; }
  std::int64_t position(std::int64_t row) const { return queries()[row % seq]; }
  std::int64_t kv_len() const { return (seq > 0 ? queries()[seq - 1] + 1 : before) + behind; }
  std::int64_t q_rows() const { return batch * seq; }
  std::int64_t kv_rows() const { return batch * kv_len(); }
};

// q, k and v lie in one fused matrix with a gap between them, as do their gradients; q has its first rows.
struct AttentionProblem {
  AttentionCase c;
  AttentionShape shape;
  Tensor qkv, o, lse, d_o, d_qkv, doc_start;
  AttentionSaved saved;
  AttentionGrads grads;
  HeadView d_o_view;

  AttentionProblem(KernelBench& bench, const AttentionCase& which, DType dtype) : c(which) {
    constexpr std::int64_t kGap = 3;
    const std::int64_t k_col = c.heads * (c.dim + c.apart) + kGap,
                       v_col = k_col + c.kv_heads * (c.dim + c.apart);
    const std::int64_t columns = v_col + c.kv_heads * (c.v_dim + c.apart),
                       out = c.heads * (c.v_dim + c.apart);
    shape = {c.batch, c.seq, c.kv_len(), c.queries(),
             static_cast<float>(1 / std::sqrt(static_cast<double>(c.dim)))};
    qkv = bench.random({c.kv_rows(), columns}, dtype);
    d_o = bench.random({c.q_rows(), out}, dtype);
    o = bench.poisoned({c.q_rows(), out}, dtype);
    lse = bench.poisoned({c.q_rows(), c.heads}, accumulator_of(dtype));
    d_qkv = bench.poisoned(qkv.shape, dtype);
    if (c.documents) {
      doc_start = bench.filled({c.q_rows()}, DType::kI32, [&](std::int64_t row) {
        const std::int64_t t = c.position(row), borders[] = {0, 1, 20, 39, 40, 77, 150};
        std::int64_t begin = 0;
        for (const std::int64_t border : borders)
          begin = border + row / c.seq <= t ? border + row / c.seq : begin;
        return begin;
      });
    }
    const auto views = [&](Tensor base) {
      return AttentionGrads{{base.slice(0, c.q_rows()), 0, c.heads, c.dim, c.dim + c.apart},
                            {base, k_col, c.kv_heads, c.dim, c.dim + c.apart},
                            {base, v_col, c.kv_heads, c.v_dim, c.v_dim + c.apart}};
    };
    const AttentionGrads in = views(qkv);
    grads = views(d_qkv);
    saved = {in.dq, in.dk, in.dv, {o, 0, c.heads, c.v_dim, c.v_dim + c.apart}, doc_start, lse};
    d_o_view = saved.o;
    d_o_view.base = d_o;
  }
  void forward(const Context& ctx) const { attention_forward(ctx, shape, saved); }
  void backward(const Context& ctx) const { attention_backward(ctx, shape, saved, d_o_view, grads); }
};

// Relative, of a result in `dtype` against one in double.
inline double attention_bound(DType dtype) {
  return dtype == DType::kF64 ? 1e-12 : dtype == DType::kF32 ? 1e-5 : 0.025;
}

}  // namespace jevons::test
