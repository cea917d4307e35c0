#include "kernels/cuda/attention.h"

#include <algorithm>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "kernels/core/error.h"
#include "kernels/cuda/attention_graph.h"
#include "kernels/cuda/document_mask.h"
#include "kernels/cuda/runtime.h"

namespace jevons::cuda {
namespace {

constexpr std::size_t kAlignedBytes = 16;  // what plans promise of every tensor

// The first element of a view, whose rows must fit what plans assume.
void* data_of(const char* name, const HeadView& view) {
  ENSURE(view.base.dtype == DType::kBF16, "attention on CUDA computes in bf16 only, {} is {}", name,
         view.base.to_string());
  auto* const data = static_cast<std::byte*>(view.base.data) + static_cast<std::size_t>(view.first_col) * 2;
  const std::size_t bits = reinterpret_cast<std::size_t>(data) |
                           static_cast<std::size_t>(view.base.cols() | view.head_dim | view.pitch()) * 2;
  ENSURE(bits % kAlignedBytes == 0,
         "attention on CUDA wants head dims and columns in multiples of 8: {} is {} from column {}, heads of "
         "{} every {} columns",
         name, view.base.to_string(), view.first_col, view.head_dim, view.pitch());
  return data;
}

HeadStrides strides_of(const HeadView& view) {
  return {view.base.cols(), view.pitch()};
}

AttentionProblem problem_of(const AttentionShape& shape, const AttentionSaved& s) {
  AttentionProblem p;
  p.batch = shape.batch, p.q_len = shape.q_len, p.kv_len = shape.kv_len;
  p.heads = s.q.heads, p.kv_heads = s.k.heads, p.dim = s.q.head_dim, p.v_dim = s.v.head_dim;
  p.q = strides_of(s.q), p.k = strides_of(s.k), p.v = strides_of(s.v), p.o = strides_of(s.o);
  p.lse_row = s.lse.cols();
  p.documents = s.doc_start.defined();
  return p;
}

std::string name_of(const char* direction, const AttentionProblem& p) {
  const std::string keys = p.q_len == p.kv_len ? "" : fmt::format(" of {}", p.kv_len);
  return fmt::format("attention {}: {} x {}{} positions, {} query and {} key heads of {} and {}{}", direction,
                     p.batch, p.q_len, keys, p.heads, p.kv_heads, p.dim, p.v_dim,
                     p.documents ? ", documents" : "");
}

class Handle {
 public:
  Handle() { check_cudnn(cudnnCreate(&handle_), "creation"); }
  ~Handle() { cudnnDestroy(handle_); }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  cudnnHandle_t get() const { return handle_; }

 private:
  cudnnHandle_t handle_ = nullptr;
};

// The library's handle and the plans made so far. One per thread, since a thread is what works on one GPU.
class AttentionLibrary {
 public:
  const CudnnPlan& forward(const AttentionProblem& p) {
    return find(forward_, p, "forward", attention_forward_graph);
  }
  const CudnnPlan& backward(const AttentionProblem& p) {
    return find(backward_, p, "backward", attention_backward_graph);
  }
  void execute(const Context& ctx, const CudnnPlan& plan, std::span<const CudnnPlan::Binding> bindings) {
    const Tensor workspace = ctx.work->alloc({static_cast<std::int64_t>(plan.workspace_bytes())}, DType::kU8);
    check_cudnn(cudnnSetStream(handle_.get(), stream_of(ctx)), "choosing a stream");
    plan.execute(handle_.get(), bindings, workspace.data);
  }
  std::vector<std::string> engines() const {
    std::vector<std::string> all;
    for (const auto& [direction, plans] :
         {std::pair("forward", &forward_), std::pair("backward", &backward_)}) {
      for (const auto& [problem, plan] : *plans)
        all.push_back(fmt::format("{}: engine {}", name_of(direction, problem), plan.engine()));
    }
    return all;
  }

 private:
  using Plans = std::map<AttentionProblem, CudnnPlan>;
  const CudnnPlan& find(Plans& plans, const AttentionProblem& p, const char* direction,
                        CudnnGraph (*graph)(const AttentionProblem&)) {
    if (const auto known = plans.find(p); known != plans.end()) return known->second;
    CudnnPlan plan(graph(p), {handle_.get(), nullptr}, name_of(direction, p));
    return plans.emplace(p, std::move(plan)).first->second;
  }

  Handle handle_;  // before the plans, which must go first
  Plans forward_, backward_;
};

AttentionLibrary& library() {
  thread_local AttentionLibrary library;
  return library;
}

// What both directions bind. The scalars live as long as this.
struct Bindings {
  Bindings(const Context& ctx, const AttentionShape& shape, const AttentionSaved& s)
      : scale(shape.scale),
        q_len(static_cast<std::int32_t>(shape.q_len)),
        kv_len(static_cast<std::int32_t>(shape.kv_len)) {
    all = {{kQ, data_of("q", s.q)}, {kK, data_of("k", s.k)}, {kV, data_of("v", s.v)}, {kO, data_of("o", s.o)},
           {kLse, s.lse.data},      {kScale, &scale},        {kLowest, &lowest}};
    if (q_len != kv_len) all.insert(all.end(), {{kQLen, &q_len}, {kKvLen, &kv_len}});
    if (!s.doc_start.defined()) return;
    const Tensor mask =
        ctx.work->alloc({shape.batch, shape.q_len, document_mask_row(shape.kv_len)}, DType::kBF16);
    document_mask(*ctx.stream, s.doc_start, mask);
    all.push_back({kDocMask, mask.data});
  }
  float scale, lowest = std::numeric_limits<float>::lowest(), one = 1;
  std::int32_t q_len, kv_len;
  std::vector<CudnnPlan::Binding> all;
};

// The part of what the whole call is given that belongs to a piece.
struct PartOf {
  AttentionPiece piece;
  AttentionShape whole;
  std::int64_t group;  // query heads that share a key head

  AttentionShape shape() const {
    AttentionShape part = whole;
    part.batch = piece.sequences;
    return part;
  }
  HeadView of_keys(const HeadView& v) const { return part(v, whole.kv_len, piece.kv_head, piece.kv_heads); }
  HeadView of_queries(const HeadView& v) const {
    return part(v, whole.q_len, piece.kv_head * group, piece.kv_heads * group);
  }
  AttentionSaved saved(const AttentionSaved& s) const {
    Tensor lse = rows(s.lse, whole.q_len);
    lse.data = lse.ptr<float>() + piece.kv_head * group;
    return {.q = of_queries(s.q),
            .k = of_keys(s.k),
            .v = of_keys(s.v),
            .o = of_queries(s.o),
            .doc_start = s.doc_start.defined() ? rows(s.doc_start, whole.q_len) : Tensor{},
            .lse = lse};
  }

 private:
  Tensor rows(const Tensor& t, std::int64_t length) const {
    return t.slice(piece.sequence * length, (piece.sequence + piece.sequences) * length);
  }
  HeadView part(HeadView v, std::int64_t length, std::int64_t first, std::int64_t count) const {
    v.base = rows(v.base, length);
    return v.part(first, count);
  }
};

// The work arena is there; the last query sees the last key, as cuDNN's graphs have it.
void check_call(const Context& ctx, const AttentionShape& shape) {
  ENSURE(ctx.work != nullptr, "attention on CUDA needs the work arena");
  ENSURE(shape.q_first + shape.q_len == shape.kv_len,
         "attention on CUDA wants the last query to see the last key: queries {} to {}, {} keys; give it the "
         "keys up to "
         "there alone",
         shape.q_first, shape.q_first + shape.q_len, shape.kv_len);
  ENSURE(shape.q_len > 0 || shape.kv_rows() == 0, "attention on CUDA: {} keys without a query", shape.kv_len);
}

void backward_of_piece(const Context& ctx, const AttentionShape& shape, const AttentionSaved& saved,
                       const HeadView& d_o, const AttentionGrads& grads) {
  const ArenaScope scope(*ctx.work);
  Bindings bindings(ctx, shape, saved);
  const Tensor delta = ctx.work->alloc({shape.batch, saved.q.heads, shape.q_len}, DType::kF32);
  bindings.all.insert(bindings.all.end(), {{kOne, &bindings.one},
                                           {kDO, data_of("d_o", d_o)},
                                           {kDq, data_of("dq", grads.dq)},
                                           {kDk, data_of("dk", grads.dk)},
                                           {kDv, data_of("dv", grads.dv)},
                                           {kDelta, delta.data}});
  AttentionProblem problem = problem_of(shape, saved);
  problem.d_o = strides_of(d_o);
  problem.dq = strides_of(grads.dq), problem.dk = strides_of(grads.dk), problem.dv = strides_of(grads.dv);
  library().execute(ctx, library().backward(problem), bindings.all);
}

}  // namespace

void attention_forward(const Context& ctx, const AttentionShape& shape, const AttentionSaved& saved) {
  check_call(ctx, shape);
  if (shape.q_rows() == 0) return;
  const ArenaScope scope(*ctx.work);
  const Bindings bindings(ctx, shape, saved);
  library().execute(ctx, library().forward(problem_of(shape, saved)), bindings.all);
}

void attention_backward(const Context& ctx, const AttentionShape& shape, const AttentionSaved& saved,
                        HeadView d_o, const AttentionGrads& grads, std::int64_t most_square_bytes) {
  check_call(ctx, shape);
  if (shape.q_rows() == 0) return;
  for (const AttentionPiece& piece : attention_pieces(attention_sizes(shape, saved), most_square_bytes)) {
    const PartOf part{piece, shape, saved.q.heads / saved.k.heads};
    backward_of_piece(ctx, part.shape(), part.saved(saved), part.of_queries(d_o),
                      {part.of_queries(grads.dq), part.of_keys(grads.dk), part.of_keys(grads.dv)});
  }
}

std::vector<std::string> attention_engines() {
  return library().engines();
}

}  // namespace jevons::cuda
