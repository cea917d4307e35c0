#include "kernels/embedding.h"

#include "kernels/op_call.h"
#include "kernels/row/embedding.h"
#include "kernels/row/launch.h"

namespace jevons {

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
  with_float_type(dy.dtype, [&]<class T>(TypeTag<T>) {
    using A = accumulator_t<T>;
    launch_rows(ctx, dy.device, blocks_of(cols, kColumnBlock), rows * kColumnBlock,
                EmbeddingBackwardKernel<T>{dy.ptr<T>(), tokens.ptr<std::int32_t>(), d_table.ptr<A>(), rows,
                                           cols, VocabSlice{vocab_begin, vocab_begin + vocab}});
  });
}

}  // namespace jevons
