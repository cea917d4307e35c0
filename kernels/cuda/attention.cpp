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
  if (view.base.dtype != DType::kBF16) {
    fail(ExitCode::kUsage, "attention on CUDA computes in bf16 only, {} is {}", name, view.base.to_string());
  }
  auto* const data = static_cast<std::byte*>(view.base.data) + static_cast<std::size_t>(view.first_col) * 2;
  const std::size_t bits =
      reinterpret_cast<std::size_t>(data) | static_cast<std::size_t>(view.base.cols() | view.head_dim) * 2;
  if (bits % kAlignedBytes != 0) {
    fail(ExitCode::kUsage,
         "attention on CUDA wants head dims and columns in multiples of 8: {} is {} from column {}", name,
         view.base.to_string(), view.first_col);
  }
  return data;
}

AttentionProblem problem_of(const AttentionShape& shape, const AttentionSaved& s) {
  AttentionProblem p;
  p.batch = shape.batch, p.seq = shape.seq;
  p.heads = s.q.heads, p.kv_heads = s.k.heads, p.dim = s.q.head_dim, p.v_dim = s.v.head_dim;
  p.q_row = s.q.base.cols(), p.k_row = s.k.base.cols(), p.v_row = s.v.base.cols(), p.o_row = s.o.base.cols();
  p.lse_row = s.lse.cols();
  p.documents = s.doc_start.defined();
  return p;
}

std::string name_of(const char* direction, const AttentionProblem& p) {
  return fmt::format("attention {}: {} x {} positions, {} query and {} key heads of {} and {}{}", direction,
                     p.batch, p.seq, p.heads, p.kv_heads, p.dim, p.v_dim, p.documents ? ", documents" : "");
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
  Bindings(const Context& ctx, const AttentionShape& shape, const AttentionSaved& s) : scale(shape.scale) {
    all = {{kQ, data_of("q", s.q)}, {kK, data_of("k", s.k)}, {kV, data_of("v", s.v)}, {kO, data_of("o", s.o)},
           {kLse, s.lse.data},      {kScale, &scale},        {kLowest, &lowest}};
    if (!s.doc_start.defined()) return;
    const Tensor mask = ctx.work->alloc({shape.batch, shape.seq, document_mask_row(shape.seq)}, DType::kBF16);
    document_mask(*ctx.stream, s.doc_start, mask);
    all.push_back({kDocMask, mask.data});
  }
  float scale, lowest = std::numeric_limits<float>::lowest(), one = 1;
  std::vector<CudnnPlan::Binding> all;
};

// The part of what the whole call is given that belongs to a piece.
struct PartOf {
  AttentionPiece piece;
  std::int64_t seq, group;  // query heads that share a key head

  Tensor rows(const Tensor& t) const {
    return t.slice(piece.sequence * seq, (piece.sequence + piece.sequences) * seq);
  }
  HeadView of_keys(const HeadView& v) const { return heads(v, piece.kv_head, piece.kv_heads); }
  HeadView of_queries(const HeadView& v) const {
    return heads(v, piece.kv_head * group, piece.kv_heads * group);
  }
  AttentionSaved saved(const AttentionSaved& s) const {
    Tensor lse = rows(s.lse);
    lse.data = lse.ptr<float>() + piece.kv_head * group;
    return {.q = of_queries(s.q),
            .k = of_keys(s.k),
            .v = of_keys(s.v),
            .o = of_queries(s.o),
            .doc_start = s.doc_start.defined() ? rows(s.doc_start) : Tensor{},
            .lse = lse};
  }

 private:
  HeadView heads(const HeadView& v, std::int64_t first, std::int64_t count) const {
    return {rows(v.base), v.first_col + first * v.head_dim, count, v.head_dim};
  }
};

void backward_of_piece(const Context& ctx, const AttentionShape& shape, const AttentionSaved& saved,
                       const HeadView& d_o, const AttentionGrads& grads) {
  const ArenaScope scope(*ctx.work);
  Bindings bindings(ctx, shape, saved);
  const Tensor delta = ctx.work->alloc({shape.batch, saved.q.heads, shape.seq}, DType::kF32);
  bindings.all.insert(bindings.all.end(), {{kOne, &bindings.one},
                                           {kDO, data_of("d_o", d_o)},
                                           {kDq, data_of("dq", grads.dq)},
                                           {kDk, data_of("dk", grads.dk)},
                                           {kDv, data_of("dv", grads.dv)},
                                           {kDelta, delta.data}});
  AttentionProblem problem = problem_of(shape, saved);
  problem.d_o_row = d_o.base.cols();
  problem.dq_row = grads.dq.base.cols();
  problem.dk_row = grads.dk.base.cols();
  problem.dv_row = grads.dv.base.cols();
  library().execute(ctx, library().backward(problem), bindings.all);
}

}  // namespace

void attention_forward(const Context& ctx, const AttentionShape& shape, const AttentionSaved& saved) {
  ENSURE(ctx.work != nullptr, "attention on CUDA needs the work arena");
  if (shape.batch * shape.seq == 0) return;
  const ArenaScope scope(*ctx.work);
  const Bindings bindings(ctx, shape, saved);
  library().execute(ctx, library().forward(problem_of(shape, saved)), bindings.all);
}

void attention_backward(const Context& ctx, const AttentionShape& shape, const AttentionSaved& saved,
                        HeadView d_o, const AttentionGrads& grads, std::int64_t most_square_bytes) {
  ENSURE(ctx.work != nullptr, "attention on CUDA needs the work arena");
  if (shape.batch * shape.seq == 0) return;
  for (const AttentionPiece& piece : attention_pieces(attention_sizes(shape, saved), most_square_bytes)) {
    const PartOf part{piece, shape.seq, saved.q.heads / saved.k.heads};
    backward_of_piece(ctx, {piece.sequences, shape.seq, shape.scale}, part.saved(saved), part.of_queries(d_o),
                      {part.of_queries(grads.dq), part.of_keys(grads.dk), part.of_keys(grads.dv)});
  }
}

std::vector<std::string> attention_engines() {
  return library().engines();
}

}  // namespace jevons::cuda
