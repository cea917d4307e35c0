#include "kernels/cuda/attention.h"

#include <algorithm>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kernels/core/error.h"
#include "kernels/cuda/attention_graph.h"
#include "kernels/cuda/attention_products.h"
#include "kernels/cuda/document_mask.h"
#include "kernels/cuda/runtime.h"

namespace jevons::cuda {
namespace {

constexpr std::size_t kAlignedBytes = 16;  // what plans promise of every tensor

void* data_of(const HeadView& view) {
  return static_cast<std::byte*>(view.base.data) + static_cast<std::size_t>(view.first_col) * 2;
}

// Whether plans may be made for such a view.
bool fits(const HeadView& view) {
  const std::size_t bits = reinterpret_cast<std::size_t>(data_of(view)) |
                           static_cast<std::size_t>(view.base.cols() | view.head_dim | view.pitch()) * 2;
  return view.base.dtype == DType::kBF16 && bits % kAlignedBytes == 0;
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

AttentionProblem problem_of(const AttentionShape& shape, const AttentionSaved& s, const HeadView& d_o,
                            const AttentionGrads& grads) {
  AttentionProblem p = problem_of(shape, s);
  p.d_o = strides_of(d_o);
  p.dq = strides_of(grads.dq), p.dk = strides_of(grads.dk), p.dv = strides_of(grads.dv);
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
  // Null: cuDNN has no plan. `ask`: whether it may be asked for one.
  const CudnnPlan* forward(const AttentionProblem& p, bool ask) {
    return find(forward_, p, ask, attention_forward_graph);
  }
  const CudnnPlan* backward(const AttentionProblem& p, bool ask) {
    return find(backward_, p, ask, attention_backward_graph);
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
        all.push_back(fmt::format("{}: {}", name_of(direction, problem.second),
                                  plan ? fmt::format("engine {}", plan->engine()) : "matrix products"));
    }
    return all;
  }

 private:
  // A problem that cuDNN was not asked about may be asked about later, with other addresses or types.
  using Plans = std::map<std::pair<bool, AttentionProblem>, std::optional<CudnnPlan>>;
  const CudnnPlan* find(Plans& plans, const AttentionProblem& p, bool ask,
                        CudnnGraph (*graph)(const AttentionProblem&)) {
    auto known = plans.find({ask, p});
    if (known == plans.end()) {
      std::optional<CudnnPlan> plan;
      if (ask) plan = CudnnPlan::find(graph(p), {handle_.get(), nullptr});
      known = plans.emplace(std::pair(ask, p), std::move(plan)).first;
    }
    return known->second ? &*known->second : nullptr;
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
    all = {{kQ, data_of(s.q)}, {kK, data_of(s.k)}, {kV, data_of(s.v)}, {kO, data_of(s.o)},
           {kLse, s.lse.data}, {kScale, &scale},   {kLowest, &lowest}};
    if (q_len != kv_len) all.insert(all.end(), {{kQLen, &q_len}, {kKvLen, &kv_len}});
    if (!s.doc_start.defined()) return;
    const Tensor mask = ctx.work->alloc({shape.batch, shape.q_len, square_row(shape.kv_len)}, DType::kBF16);
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

// cuDNN's graphs have neighbours ask, and the last query see the last key.
bool fits(const AttentionShape& shape, const AttentionSaved& s) {
  return shape.q_len > 0 && shape.q_len <= shape.queries.run && shape.queries_end() == shape.kv_len &&
         fits(s.q) && fits(s.k) && fits(s.v) && fits(s.o);
}
bool fits(const AttentionGrads& grads) {
  return fits(grads.dq) && fits(grads.dk) && fits(grads.dv);
}

void by_products(const Context& ctx, const AttentionShape& shape, const AttentionSaved& saved,
                 const HeadView& d_o, const AttentionGrads& grads, std::int64_t most_square_bytes) {
  attention_backward_by_products(ctx, shape, saved, d_o, grads,
                                 square_block(attention_sizes(shape, saved), most_square_bytes));
}

// Some heads of some sequences: what one call of cuDNN is given.
void backward_of_piece(const Context& ctx, const AttentionShape& shape, const AttentionSaved& saved,
                       const HeadView& d_o, const AttentionGrads& grads, std::int64_t most_square_bytes) {
  const CudnnPlan* const plan = library().backward(problem_of(shape, saved, d_o, grads), true);
  if (plan == nullptr) return by_products(ctx, shape, saved, d_o, grads, most_square_bytes);
  const ArenaScope scope(*ctx.work);
  Bindings bindings(ctx, shape, saved);
  const Tensor delta = ctx.work->alloc({shape.batch, saved.q.heads, shape.q_len}, DType::kF32);
  bindings.all.insert(bindings.all.end(), {{kOne, &bindings.one},
                                           {kDO, data_of(d_o)},
                                           {kDq, data_of(grads.dq)},
                                           {kDk, data_of(grads.dk)},
                                           {kDv, data_of(grads.dv)},
                                           {kDelta, delta.data}});
  library().execute(ctx, *plan, bindings.all);
}

}  // namespace

void attention_forward(const Context& ctx, const AttentionShape& shape, const AttentionSaved& saved) {
  ENSURE(ctx.work != nullptr, "attention on CUDA needs the work arena");
  if (shape.q_rows() == 0) return;
  const CudnnPlan* const plan = library().forward(problem_of(shape, saved), fits(shape, saved));
  if (plan == nullptr)
    return attention_forward_by_products(ctx, shape, saved,
                                         square_block(attention_sizes(shape, saved), kMostSquareBytes));
  const ArenaScope scope(*ctx.work);
  const Bindings bindings(ctx, shape, saved);
  library().execute(ctx, *plan, bindings.all);
}

void attention_backward(const Context& ctx, const AttentionShape& shape, const AttentionSaved& saved,
                        HeadView d_o, const AttentionGrads& grads, std::int64_t most_square_bytes) {
  ENSURE(ctx.work != nullptr, "attention on CUDA needs the work arena");
  if (shape.kv_rows() == 0) return;
  if (!fits(shape, saved) || !fits(d_o) || !fits(grads)) {
    library().backward(problem_of(shape, saved, d_o, grads), false);
    return by_products(ctx, shape, saved, d_o, grads, most_square_bytes);
  }
  for (const AttentionPiece& piece : attention_pieces(attention_sizes(shape, saved), most_square_bytes)) {
    const PartOf part{piece, shape, saved.q.heads / saved.k.heads};
    backward_of_piece(ctx, part.shape(), part.saved(saved), part.of_queries(d_o),
                      {part.of_queries(grads.dq), part.of_keys(grads.dk), part.of_keys(grads.dv)},
                      most_square_bytes);
  }
}

std::vector<std::string> attention_engines() {
  return library().engines();
}

}  // namespace jevons::cuda
