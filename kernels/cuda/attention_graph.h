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

// Head h of position t of sequence b begins at element (b * seq + t) * row + h * head_dim of a bf16 tensor;
// both row and head_dim are multiples of 8 (16 bytes). Everything that a plan depends on, so the key of the
// cache of plans.
struct AttentionProblem {
  std::int64_t batch = 0, seq = 0, heads = 0, kv_heads = 0, dim = 0, v_dim = 0;
  std::int64_t q_row = 0, k_row = 0, v_row = 0, o_row = 0;
  std::int64_t lse_row = 0;                                      // of a position, at least `heads`
  std::int64_t d_o_row = 0, dq_row = 0, dk_row = 0, dv_row = 0;  // 0 in the forward direction
  bool documents = false;                                        // keys of earlier documents are masked

  auto operator<=>(const AttentionProblem&) const = default;
};

// What the caller binds. Scalars are f32 on the host.
enum AttentionId : std::int64_t {
  kQ = 1,
  kK,
  kV,
  kO,
  kLse,      // (batch * seq, lse_row) f32: natural log of the sum of exponentials
  kDocMask,  // (batch, seq, document_mask_row) bf16: kernels/cuda/document_mask.h
  kScale,
  kLowest,  // of all f32
  kOne,
  kDO,
  kDq,
  kDk,
  kDv,
  kDelta,  // (batch, heads, seq) f32 scratch: row sums of dO * O
};

CudnnGraph attention_forward_graph(const AttentionProblem& problem);
CudnnGraph attention_backward_graph(const AttentionProblem& problem);

}  // namespace jevons::cuda
