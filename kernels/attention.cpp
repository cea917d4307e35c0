#include "kernels/attention.h"

#include <algorithm>

#include "kernels/attention_scratch.h"
#include "kernels/cpu/attention_engine.h"
#include "kernels/cpu/launch.h"
#include "kernels/cuda/attention.h"
#include "kernels/op_call.h"

namespace jevons {
namespace {

// Query-key pairs below and on the diagonal, the work of one head of the call. Documents are not subtracted:
// their borders are data, and a dry run must count the same.
double causal_pairs(const AttentionShape& shape) {
  double pairs = 0;
  for (std::int64_t first = 0, count = 0; first < shape.q_len; first += count) {
    count = std::min(shape.queries.run, shape.q_len - first);
    const auto queries = static_cast<double>(count), before = static_cast<double>(shape.queries[first]);
    pairs += queries * (before + (queries + 1) / 2);
  }
  return static_cast<double>(shape.batch) * pairs;
}

void check(const AttentionShape& shape, const HeadView& q, const HeadView& k, const HeadView& v) {
  ENSURE(shape.queries.first >= 0 && shape.queries.run > 0 && shape.queries_end() <= shape.kv_len,
         "attention: queries {} to {} of sequences of {} keys", shape.queries.first, shape.queries_end(),
         shape.kv_len);
  ENSURE(q.base.shape.ndim() == 2 && q.base.shape[0] == shape.q_rows(),
         "attention: {} sequences of {} queries, but q is {}", shape.batch, shape.q_len, q.base.to_string());
  ENSURE(k.base.shape.ndim() == 2 && k.base.shape[0] == shape.kv_rows(),
         "attention: {} sequences of {} keys, but k is {}", shape.batch, shape.kv_len, k.base.to_string());
  ENSURE(k.heads > 0 && v.heads == k.heads && q.heads % k.heads == 0,
         "attention: {} query heads cannot share {} key and {} value heads", q.heads, k.heads, v.heads);
  ENSURE(q.head_dim > 0 && k.head_dim == q.head_dim && v.head_dim > 0,
         "attention: head_dim {} of q, {} of k, {} of v", q.head_dim, k.head_dim, v.head_dim);
  ENSURE(shape.scale > 0, "attention: scale {} is not positive", shape.scale);
}

// A view that must have these heads, over the rows of `rows`.
HeadView like(const HeadView& rows, std::int64_t heads, std::int64_t head_dim) {
  return {rows.base, 0, heads, head_dim};
}

void check_saved(OpCall& call, const AttentionSaved& s) {
  const DType dtype = s.q.base.dtype;
  const std::int64_t rows = s.q.base.shape[0];
  call.reads("q", s.q, s.q, dtype)
      .reads("k", s.k, like(s.k, s.k.heads, s.q.head_dim), dtype)
      .reads("v", s.v, like(s.k, s.k.heads, s.v.head_dim), dtype)
      .writes("o", s.o, like(s.q, s.q.heads, s.v.head_dim), dtype)
      .writes("lse", s.lse, {rows, s.q.heads}, accumulator_of(dtype));
  if (s.doc_start.defined()) call.reads("doc_start", s.doc_start, {rows}, DType::kI32);
}

bool counts_a_gpu(const Context& ctx, const AttentionSaved& s) {
  return s.q.base.device == Device::kMeta && ctx.modelled == Device::kCuda;
}

// Rows from `first_row` on, from the first column of head `head` on.
cpu::HeadRows rows_of(const HeadView& view, std::int64_t first_row, std::int64_t head) {
  const std::int64_t element = first_row * view.base.cols() + view.first_col + head * view.pitch();
  return {static_cast<char*>(view.base.data) + element * static_cast<std::int64_t>(size_of(view.base.dtype)),
          view.base.cols(), view.pitch()};
}

cpu::AttentionTask task_of(const AttentionShape& shape, const AttentionSaved& s, std::int64_t sequence,
                           std::int64_t kv_head) {
  const std::int64_t query = sequence * shape.q_len, key = sequence * shape.kv_len;
  const std::int64_t group = s.q.heads / s.k.heads;
  cpu::AttentionTask task;
  task.q_len = shape.q_len;
  task.kv_len = shape.kv_len;
  task.queries = shape.queries;
  task.group = group;
  task.dim = s.q.head_dim;
  task.v_dim = s.v.head_dim;
  task.scale = shape.scale;
  if (s.doc_start.defined()) task.doc_start = s.doc_start.ptr<std::int32_t>() + query;
  task.q = rows_of(s.q, query, kv_head * group);
  task.k = rows_of(s.k, key, kv_head);
  task.v = rows_of(s.v, key, kv_head);
  task.o = rows_of(s.o, query, kv_head * group);
  task.lse = rows_of({s.lse, 0, s.q.heads, 1}, query, kv_head * group);
  return task;
}

// Every query sees itself and nothing before its sequence.
void check_doc_start(const AttentionShape& shape, const Tensor& doc_start) {
  if (!doc_start.defined()) return;
  const std::int32_t* begin = doc_start.ptr<std::int32_t>();
  for (std::int64_t row = 0; row < shape.q_rows(); ++row) {
    const std::int64_t position = shape.queries[row % shape.q_len];
    ENSURE(begin[row] >= 0 && begin[row] <= position, "attention: doc_start of row {} is {}, position {}",
           row, begin[row], position);
  }
}

// Calls f(task, sequence, kv_head) for every key-value head of every sequence.
template <class F>
void for_each_head(const Context& ctx, const AttentionShape& shape, const AttentionSaved& s, F f) {
  if (s.q.base.device == Device::kMeta) return;
  check_doc_start(shape, s.doc_start);
  const std::int64_t heads = s.k.heads;
  parallel_for(ctx, shape.batch * heads, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i)
      f(task_of(shape, s, i / heads, i % heads), i / heads, i % heads);
  });
}

WorkSizes sizes_of(const AttentionShape& shape, const AttentionSaved& s) {
  return {{{"sequences", shape.batch},
           {"q_len", shape.q_len},
           {"kv_len", shape.kv_len},
           {"heads", s.q.heads},
           {"kv_heads", s.k.heads},
           {"head_dim", s.q.head_dim},
           {"v_dim", s.v.head_dim}}};
}

}  // namespace

void attention_forward(const Context& ctx, const AttentionShape& shape, const AttentionSaved& s) {
  check(shape, s.q, s.k, s.v);
  OpCall call("attention_forward", s.q.base.device);
  check_saved(call, s);
  const auto width = static_cast<double>(s.q.heads * (s.q.head_dim + s.v.head_dim));
  call.record(ctx, WorkKind::kAttention, s.q.base.dtype, sizes_of(shape, s), 2 * causal_pairs(shape) * width);
  if (s.q.base.device == Device::kCuda) return cuda::attention_forward(ctx, shape, s);
  if (counts_a_gpu(ctx, s)) return count_attention_forward(ctx, attention_sizes(shape, s));
  const cpu::AttentionEngine& engine = cpu::attention_engine(s.q.base.dtype);
  for_each_head(ctx, shape, s,
                [&](const cpu::AttentionTask& task, std::int64_t, std::int64_t) { engine.forward(task); });
}

void attention_backward(const Context& ctx, const AttentionShape& shape, const AttentionSaved& s,
                        HeadView d_o, const AttentionGrads& grads) {
  check(shape, s.q, s.k, s.v);
  const DType dtype = s.q.base.dtype;
  OpCall call("attention_backward", s.q.base.device);
  check_saved(call, s);
  call.reads("d_o", d_o, s.o, dtype)
      .writes("dq", grads.dq, s.q, dtype)
      .writes("dk", grads.dk, s.k, dtype)
      .writes("dv", grads.dv, s.v, dtype);
  // Five products: q k^T again, d_o v^T, and one for each gradient.
  const auto width = static_cast<double>(s.q.heads * (3 * s.q.head_dim + 2 * s.v.head_dim));
  call.record(ctx, WorkKind::kAttention, dtype, sizes_of(shape, s), 2 * causal_pairs(shape) * width);
  if (s.q.base.device == Device::kCuda)
    return cuda::attention_backward(ctx, shape, s, d_o, grads, kMostSquareBytes);
  if (counts_a_gpu(ctx, s)) return count_attention_backward(ctx, attention_sizes(shape, s));
  const cpu::AttentionEngine& engine = cpu::attention_engine(dtype);
  const std::int64_t group = s.q.heads / s.k.heads;
  for_each_head(ctx, shape, s, [&](cpu::AttentionTask task, std::int64_t sequence, std::int64_t kv_head) {
    const std::int64_t query = sequence * shape.q_len, key = sequence * shape.kv_len;
    task.d_o = rows_of(d_o, query, kv_head * group);
    task.dq = rows_of(grads.dq, query, kv_head * group);
    task.dk = rows_of(grads.dk, key, kv_head);
    task.dv = rows_of(grads.dv, key, kv_head);
    engine.backward(task);
  });
}

std::vector<std::string> attention_engines() {
  return cuda::attention_engines();
}

}  // namespace jevons
