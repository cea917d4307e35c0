// Causal scaled dot-product attention with grouped queries and an optional document mask, computed in blocks;
// the full square is never stored. Saves the log-sum-exp of every query row (Dao et al., arXiv:2307.08691).
#pragma once

#include <string>
#include <vector>

#include "kernels/core/context.h"
#include "kernels/heads.h"
#include "kernels/positions.h"

namespace jevons {

// Queries may be some of the positions of a sequence whose keys are all there: those of one rank of several.
struct AttentionShape {
  std::int64_t batch = 0;   // sequences
  std::int64_t q_len = 0;   // row t of q, o and lse is query t % q_len of sequence t / q_len
  std::int64_t kv_len = 0;  // row t of k and v is position t % kv_len of sequence t / kv_len
  Positions queries = {};   // of a sequence's queries; all before kv_len
  float scale = 1;          // multiplies q k^T

  // Every position asks and is asked.
  static AttentionShape of_sequences(std::int64_t batch, std::int64_t length, float scale) {
    return {batch, length, length, {}, scale};
  }
  // Behind the last position that asks; 0 without a query.
  std::int64_t queries_end() const { return q_len > 0 ? queries[q_len - 1] + 1 : 0; }
  std::int64_t q_rows() const { return batch * q_len; }
  std::int64_t kv_rows() const { return batch * kv_len; }
};

// What forward reads and writes, and backward reads again.
struct AttentionSaved {
  // f32, bf16 or f64. k and v may have fewer heads (a divisor of q's); v's head_dim may differ from q's.
  // Forward writes o.
  HeadView q, k, v, o;
  // (q_rows) i32: for every query the first position, within its sequence, that it may see, at most its own.
  // Undefined: 0. On the GPU it may not decrease within a sequence.
  Tensor doc_start;
  Tensor lse;  // (q_rows, heads) accumulator dtype, written by forward
};
// The query at position p sees the keys at positions [its doc_start, p].
void attention_forward(const Context&, const AttentionShape&, const AttentionSaved&);

// May be views of one fused tensor. Keys that no query sees have a gradient of 0.
struct AttentionGrads {
  HeadView dq, dk, dv;
};
// Assigns dq, dk, dv.
void attention_backward(const Context&, const AttentionShape&, const AttentionSaved&, HeadView d_o,
                        const AttentionGrads&);

// What the calls of this thread on a GPU went by so far, a line each, for people: "attention forward: 1 x
// 4096 positions, ...: engine 2" of the library, or "...: matrix products". None without a GPU.
std::vector<std::string> attention_engines();

}  // namespace jevons
