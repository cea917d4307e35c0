// Causal scaled dot-product attention with grouped queries and an optional document mask, computed in blocks;
// the full square is never stored. Saves the log-sum-exp of every query row (Dao et al., arXiv:2307.08691).
#pragma once

#include "kernels/core/context.h"
#include "kernels/heads.h"

namespace jevons {

struct AttentionShape {
  std::int64_t batch = 0;  // sequences; row t of a view is position t % seq of sequence t / seq
  std::int64_t seq = 0;
  float scale = 1;  // multiplies q k^T
};

// q, k, v, o: f32, bf16 or f64. k and v may have fewer heads (a divisor of q's); v's head_dim may differ from
// q's. doc_start (batch*seq) i32 gives for every query the first position, within its sequence, that it may
// see; an undefined tensor means 0; on the GPU it may not decrease within a sequence. lse (batch*seq, heads)
// accumulator dtype is written by forward.
void attention_forward(const Context&, const AttentionShape&, HeadView q, HeadView k, HeadView v,
                       Tensor doc_start, HeadView o, Tensor lse);
// Assigns dq, dk, dv (which may be views of one fused tensor).
struct AttentionGrads {
  HeadView dq, dk, dv;
};
struct AttentionSaved {
  HeadView q, k, v, o;
  Tensor doc_start, lse;
};
void attention_backward(const Context&, const AttentionShape&, const AttentionSaved&, HeadView d_o,
                        const AttentionGrads&);

}  // namespace jevons
