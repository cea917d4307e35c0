// Attention of one key-value head of one sequence, on one thread, behind a small interface: a portable
// version in plain loops and one for AVX-512. Every sum runs in an order given by the sequence alone.
#pragma once

#include <cstdint>

#include "kernels/core/dtype.h"
#include "kernels/positions.h"

namespace jevons::cpu {

// Row t of the sequence begins at element t * ld of data; query head g of the group at element g * stride in
// it.
struct HeadRows {
  void* data = nullptr;
  std::int64_t ld = 0;
  std::int64_t stride = 0;
};

struct AttentionTask {
  std::int64_t q_len = 0, kv_len = 0;
  Positions queries = {};  // query t sees the keys up to its position
  std::int64_t group = 1;  // query heads that share this key-value head
  std::int64_t dim = 0;    // head_dim of q and k
  std::int64_t v_dim = 0;  // head_dim of v and o
  float scale = 1;
  const std::int32_t* doc_start = nullptr;  // (q_len), or null: every query sees from position 0 on
  HeadRows q, k, v, o;
  HeadRows lse;              // accumulator dtype, one element per row and query head
  HeadRows d_o, dq, dk, dv;  // backward only
};

struct AttentionEngine {
  void (*forward)(const AttentionTask&);
  void (*backward)(const AttentionTask&);
};

// The best engine that this CPU can run.
const AttentionEngine& attention_engine(DType dtype);

// Each engine by itself, for tests and for choosing. dtype: f32, bf16 and, for the portable one, f64.
const AttentionEngine& attention_engine_portable(DType dtype);
const AttentionEngine& attention_engine_avx512(DType dtype);

}  // namespace jevons::cpu
