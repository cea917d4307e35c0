#include "kernels/embedding.h"

#include "kernels/op_call.h"
#include "kernels/row/embedding.h"
#include "kernels/row/launch.h"

namespace jevons {
namespace {

// By a sort of the tokens, for a GPU.
template <class T>
void add_sorted(const Context& ctx, const Tensor& dy, const Tensor& tokens, VocabSlice slice,
                const Tensor& d_table) {
  using A = accumulator_t<T>;
  ENSURE(ctx.work != nullptr, "embedding_backward needs the work arena");
  const ArenaScope scope(*ctx.work);
  const std::int64_t rows = dy.rows(), cols = dy.cols();
  const Tensor memory = ctx.work->alloc({rows * static_cast<std::int64_t>(sizeof(TokenAt))}, DType::kU8);
  auto* const sorted = static_cast<TokenAt*>(memory.data);
  launch_rows(ctx, dy.device, rows, rows, SortTokensKernel{tokens.ptr<std::int32_t>(), sorted, rows});
  launch_rows(ctx, dy.device, rows * blocks_of(cols, kEmbeddingColumns), kEmbeddingColumns,
              EmbeddingBackwardSortedKernel<T>{dy.ptr<T>(), sorted, d_table.ptr<A>(), rows, cols, slice});
}

}  // namespace

void embedding_forward(const Context& ctx, Tensor tokens, Tensor table, std::int64_t vocab_begin, Tensor y) {
  const std::int64_t rows = tokens.numel(), cols = y.cols(), vocab = table.shape[0];
  OpCall("embedding_forward", y.device)
      .reads("tokens", tokens, {rows}, DType::kI32)
      .uses("table", table, {vocab, cols}, y.dtype)
      .writes("y", y, {rows, cols}, y.dtype)
      .moves(static_cast<double>(y.bytes()))
      .record(ctx, WorkKind::kRow);
  const std::int64_t row_bytes = cols * static_cast<std::int64_t>(size_of(y.dtype));
  launch_rows(ctx, y.device, rows, cols,
              EmbeddingKernel{tokens.ptr<std::int32_t>(),
                              static_cast<const std::uint8_t*>(table.data),
                              static_cast<std::uint8_t*>(y.data),
                              row_bytes,
                              {vocab_begin, vocab_begin + vocab}});
}

void embedding_backward(const Context& ctx, Tensor dy, Tensor tokens, std::int64_t vocab_begin,
                        Tensor d_table) {
  const std::int64_t rows = tokens.numel(), cols = dy.cols(), vocab = d_table.shape[0];
  const DType sums = accumulator_of(dy.dtype);
  OpCall("embedding_backward", dy.device)
      .reads("dy", dy, {rows, cols}, dy.dtype)
      .reads("tokens", tokens, {rows}, DType::kI32)
      .uses("d_table", d_table, {vocab, cols}, sums)
      .moves(2.0 * static_cast<double>(rows * cols) * static_cast<double>(size_of(sums)))
      .record(ctx, WorkKind::kRow);
  const VocabSlice slice{vocab_begin, vocab_begin + vocab};
  with_float_type(dy.dtype, [&]<class T>(TypeTag<T>) {
    using A = accumulator_t<T>;
    if (dy.device == Device::kCuda) return add_sorted<T>(ctx, dy, tokens, slice, d_table);
    launch_rows(ctx, dy.device, blocks_of(cols, kColumnBlock), rows * kColumnBlock,
                EmbeddingBackwardKernel<T>{dy.ptr<T>(), tokens.ptr<std::int32_t>(), d_table.ptr<A>(), rows,
                                           cols, slice});
  });
}

}  // namespace jevons
