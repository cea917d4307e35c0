#include "kernels/cuda/attention_products.h"

#include <algorithm>
#include <vector>

#include "kernels/core/device_runtime.h"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/runtime.h"
#include "kernels/op_call.h"
#include "kernels/row/attention_square.h"
#include "kernels/row/launch.h"

namespace jevons::cuda {
namespace {

// A matrix for each key head of a block, `step` elements apart.
struct Matrices {
  Operand first;
  std::int64_t step;

  // Its rows are the factor's k.
  Matrices turned() const {
    Matrices other = *this;
    other.first.contiguous = Contiguous::kOuter;
    return other;
  }
  template <class T>
  T* data() const {
    return static_cast<T*>(const_cast<void*>(first.data));
  }
  template <class T>
  QueryHeads<T> heads() const {
    return {data<T>(), first.ld, step};
  }
};

// Every `each`-th head of a view from `head` on, from row `row` on.
Matrices matrices_of(const HeadView& view, std::int64_t row, std::int64_t head, std::int64_t each) {
  const Operand base{view.base.data, view.base.cols(), view.base.dtype};
  return {base.from(row, view.first_col + head * view.pitch()), each * view.pitch()};
}

// Some key heads of a sequence.
struct KeyHeads {
  std::int64_t sequence, first, count;
};

// Some queries with the keys that the last of them sees, of some key heads and, of the query heads that share
// each, the one that is `member` of its group.
struct Block {
  KeyHeads heads;
  std::int64_t member, first_query, queries, keys;
};

// One call, cut into blocks.
class Products {
 public:
  Products(const Context& ctx, const AttentionShape& shape, const AttentionSaved& saved,
           const SquareBlock& at_once)
      : ctx_(ctx),
        shape_(shape),
        s_(saved),
        group_(saved.q.heads / saved.k.heads),
        sizes_(attention_sizes(shape, saved)),
        most_(at_once) {}

  void forward() const {
    const ArenaScope scope(*ctx_.work);
    const ForwardSquares squares = take_forward_squares(*ctx_.work, sizes_, most_);
    for (const KeyHeads& heads : runs_of_heads())
      for (const Block& block : blocks_of(heads)) forward_of(block, squares);
  }

  void backward(const HeadView& d_o, const AttentionGrads& grads) const {
    const ArenaScope scope(*ctx_.work);
    const BackwardSquares squares = take_backward_squares(*ctx_.work, sizes_, most_);
    for (const KeyHeads& heads : runs_of_heads()) {
      for (const Tensor& sum : {squares.dk, squares.dv})
        fill_async(stream_of(ctx_), sum.data, 0, sum.bytes());
      for (const Block& block : blocks_of(heads)) backward_of(block, d_o, grads.dq, squares);
      round(heads, squares.dk, grads.dk);
      round(heads, squares.dv, grads.dv);
    }
  }

 private:
  std::vector<KeyHeads> runs_of_heads() const {
    std::vector<KeyHeads> runs;
    for (std::int64_t b = 0; b < shape_.batch; ++b) {
      for (std::int64_t h = 0; h < s_.k.heads; h += most_.kv_heads)
        runs.push_back({b, h, std::min(most_.kv_heads, s_.k.heads - h)});
    }
    return runs;
  }
  std::vector<Block> blocks_of(const KeyHeads& heads) const {
    std::vector<Block> blocks;
    // Of queries in several runs a block begins with one.
    const std::int64_t run = shape_.queries.run,
                       step = most_.queries > run ? most_.queries / run * run : most_.queries;
    for (std::int64_t first = 0, queries = 0; first < shape_.q_len; first += queries) {
      const std::int64_t left = step < run ? run - first % run : shape_.q_len - first;
      queries = std::min({step, left, shape_.q_len - first});
      // Whole packs of keys, where there are some more that nobody sees.
      const std::int64_t keys = std::min(square_row(shape_.queries[first + queries - 1] + 1), shape_.kv_len);
      for (std::int64_t member = 0; member < group_; ++member)
        blocks.push_back({heads, member, first, queries, keys});
    }
    return blocks;
  }

  Matrices queries(const HeadView& view, const Block& b) const {
    return matrices_of(view, b.heads.sequence * shape_.q_len + b.first_query,
                       b.heads.first * group_ + b.member, group_);
  }
  Matrices keys(const HeadView& view, const Block& b) const {
    return matrices_of(view, b.heads.sequence * shape_.kv_len, b.heads.first, 1);
  }
  Matrices lse(const Block& b) const { return queries({s_.lse, 0, s_.q.heads, 1}, b); }
  // The rows of a block lie one behind another.
  static Matrices square(const Tensor& t, const Block& b) {
    return {{t.data, t.cols(), t.dtype}, b.queries * t.cols()};
  }
  // A gradient of keys or values that is being summed: (kv_len, heads, head_dim).
  static HeadView heads_of(const Tensor& sum, std::int64_t heads) {
    return {sum.reshape({sum.shape[0], sum.shape[1] * sum.shape[2]}), 0, heads, sum.shape[2]};
  }
  static Matrices gradient(const Tensor& sum, const Block& b) {
    return matrices_of(heads_of(sum, b.heads.count), 0, 0, 1);
  }

  // C (m, n) = or += A (m, k) B (k, n) for every head.
  struct Sizes {
    std::int64_t m, n, k;
  };
  void multiply(const Block& block, const Sizes& sizes, const Matrices& a, const Matrices& b,
                const Matrices& c, Output output = Output::kAssign) const {
    run_product_batch(ctx_, {.first = {sizes.m, sizes.n, sizes.k, a.first, b.first, c.data<void>(),
                                       c.first.ld, c.first.dtype, output},
                             .count = block.heads.count,
                             .a_step = a.step,
                             .b_step = b.step,
                             .c_step = c.step});
  }

  AttentionSquare rows_of(const Block& b, const Tensor& square) const {
    const std::int64_t row = b.heads.sequence * shape_.q_len + b.first_query;
    return {.queries = b.queries,
            .keys = b.keys,
            .stride = square.cols(),
            .at = shape_.queries.from(b.first_query),
            .doc_start = s_.doc_start.defined() ? s_.doc_start.ptr<std::int32_t>() + row : nullptr};
  }
  template <class Kernel>
  void run_rows(const Block& b, const Kernel& kernel) const {
    launch_rows(*ctx_.stream, b.heads.count * b.queries, b.keys, kernel);
  }

  void forward_of(const Block& b, const ForwardSquares& squares) const {
    const Matrices scores = square(squares.scores, b), p = square(squares.p, b);
    multiply(b, {b.queries, b.keys, sizes_.dim}, queries(s_.q, b), keys(s_.k, b), scores);
    with_float_type(sizes_.dtype, [&]<class T>(TypeTag<T>) {
      using A = accumulator_t<T>;
      run_rows(b, AttentionSoftmaxKernel<T>{rows_of(b, squares.scores), scores.data<A>(),
                                            static_cast<A>(shape_.scale), p.data<T>(), lse(b).heads<A>()});
    });
    multiply(b, {b.queries, sizes_.v_dim, b.keys}, p, keys(s_.v, b).turned(), queries(s_.o, b));
  }

  void backward_of(const Block& b, const HeadView& d_out, const HeadView& dq,
                   const BackwardSquares& squares) const {
    const Matrices scores = square(squares.scores, b), d_p = square(squares.d_p, b), p = square(squares.p, b),
                   d_scores = square(squares.d_scores, b);
    const Matrices q = queries(s_.q, b), k = keys(s_.k, b), d_o = queries(d_out, b);
    multiply(b, {b.queries, b.keys, sizes_.dim}, q, k, scores);
    multiply(b, {b.queries, b.keys, sizes_.v_dim}, d_o, keys(s_.v, b), d_p);
    with_float_type(sizes_.dtype, [&]<class T>(TypeTag<T>) {
      using A = accumulator_t<T>;
      run_rows(b,
               AttentionSoftmaxBackwardKernel<T>{rows_of(b, squares.scores), scores.data<A>(), d_p.data<A>(),
                                                 static_cast<A>(shape_.scale), lse(b).heads<const A>(),
                                                 queries(s_.o, b).heads<const T>(), d_o.heads<const T>(),
                                                 sizes_.v_dim, p.data<T>(), d_scores.data<T>()});
    });
    multiply(b, {b.queries, sizes_.dim, b.keys}, d_scores, k.turned(), queries(dq, b));
    multiply(b, {b.keys, sizes_.dim, b.queries}, d_scores.turned(), q.turned(), gradient(squares.dk, b),
             Output::kAccumulate);
    multiply(b, {b.keys, sizes_.v_dim, b.queries}, p.turned(), d_o.turned(), gradient(squares.dv, b),
             Output::kAccumulate);
  }

  // A sum over all blocks into the gradient's own heads.
  void round(const KeyHeads& heads, const Tensor& sum, const HeadView& gradient) const {
    HeadView to = gradient.part(heads.first, heads.count);
    to.base = to.base.slice(heads.sequence * shape_.kv_len, (heads.sequence + 1) * shape_.kv_len);
    const HeadView from = heads_of(sum, heads.count);
    with_float_type(sizes_.dtype, [&]<class T>(TypeTag<T>) {
      launch_rows(*ctx_.stream, shape_.kv_len * heads.count, to.head_dim,
                  RoundHeadsKernel<T>{jevons::rows_of<const accumulator_t<T>>(from), jevons::rows_of<T>(to)});
    });
  }

  const Context& ctx_;
  const AttentionShape& shape_;
  const AttentionSaved& s_;
  std::int64_t group_;
  AttentionSizes sizes_;
  SquareBlock most_;
};

}  // namespace

void attention_forward_by_products(const Context& ctx, const AttentionShape& shape,
                                   const AttentionSaved& saved, const SquareBlock& at_once) {
  if (shape.q_rows() > 0) Products(ctx, shape, saved, at_once).forward();
}

void attention_backward_by_products(const Context& ctx, const AttentionShape& shape,
                                    const AttentionSaved& saved, const HeadView& d_o,
                                    const AttentionGrads& grads, const SquareBlock& at_once) {
  if (shape.kv_rows() > 0) Products(ctx, shape, saved, at_once).backward(d_o, grads);
}

}  // namespace jevons::cuda
