// Causal attention with grouped queries and an optional document mask as cuDNN graphs, forward and backward:
// the composite graph of Dao et al., arXiv:2307.08691, that cuDNN recognises and runs as one kernel without
// storing the square of scores. Head dims and types that it has no engine for are found out when a plan is
// made.
#pragma once

#include <compare>
#include <cstdint>

#include "kernels/attention_scratch.h"
#include "kernels/cuda/cudnn_graph.h"

namespace jevons::cuda {

// Head h of row t of a bf16 matrix begins at element t * row + h * head. Both, and the head dims, are
// multiples of 8 (16 bytes).
struct HeadStrides {
  std::int64_t row = 0, head = 0;
  auto operator<=>(const HeadStrides&) const = default;
};

// Row t of q, o and lse is query t % q_len of sequence t / q_len, row t of k and v position t % kv_len; the
// last query sees the last key, each query before it one key less. Everything that a plan depends on, so the
// key of the cache of plans.
struct AttentionProblem {
  std::int64_t batch = 0, q_len = 0, kv_len = 0, heads = 0, kv_heads = 0, dim = 0, v_dim = 0;
  HeadStrides q, k, v, o;
  std::int64_t lse_row = 0;     // of a query, at least `heads`
  HeadStrides d_o, dq, dk, dv;  // 0 in the forward direction
  bool documents = false;       // keys of earlier documents are masked

  auto operator<=>(const AttentionProblem&) const = default;
};

// What the caller binds. Scalars are f32 on the host, lengths i32.
enum AttentionId : std::int64_t {
  kQ = 1,
  kK,
  kV,
  kO,
  kLse,      // (batch * q_len, lse_row) f32: natural log of the sum of exponentials
  kDocMask,  // (batch, q_len, square_row) bf16: kernels/cuda/document_mask.h
  kScale,
  kLowest,  // of all f32
  kOne,
  kDO,
  kDq,
  kDk,
  kDv,
  kQLen,  // where it differs from kv_len
  kKvLen,
  kDelta,  // (batch, heads, q_len) f32 scratch: row sums of dO * O
};

CudnnGraph attention_forward_graph(const AttentionProblem& problem);
CudnnGraph attention_backward_graph(const AttentionProblem& problem);

}  // namespace jevons::cuda
