#include "kernels/moe/permute.h"

#include "kernels/moe/permute_row.h"
#include "kernels/op_call.h"
#include "kernels/row/launch.h"

namespace jevons {

void gather_rows(const Context& ctx, Tensor x, Tensor index, Tensor y) {
  const std::int64_t rows = y.rows(), cols = y.cols();
  OpCall("gather_rows", y.device)
      .uses("x", x, {x.rows(), cols}, y.dtype)
      .reads("index", index, {rows}, DType::kI32)
      .writes("y", y, {rows, cols}, y.dtype)
      .moves(static_cast<double>(y.bytes()))
      .record(ctx, WorkKind::kRow);
  const std::int64_t row_bytes = cols * static_cast<std::int64_t>(size_of(y.dtype));
  launch_rows(ctx, y.device, rows, row_bytes / 4,
              GatherRowsKernel{static_cast<const std::uint8_t*>(x.data), index.ptr<std::int32_t>(),
                               static_cast<std::uint8_t*>(y.data), row_bytes});
}

void sum_rows(const Context& ctx, Tensor x, Tensor index, Tensor y) {
  const std::int64_t rows = y.rows(), cols = y.cols(), slots = index.cols();
  OpCall("sum_rows", y.device)
      .uses("x", x, {x.rows(), cols}, y.dtype)
      .reads("index", index, {rows, slots}, DType::kI32)
      .writes("y", y, {rows, cols}, y.dtype)
      .moves(static_cast<double>(y.bytes()) * static_cast<double>(slots))
      .record(ctx, WorkKind::kRow);
  with_float_type(y.dtype, [&]<class T>(TypeTag<T>) {
    launch_rows(ctx, y.device, rows, cols * (slots + 1),
                SumRowsKernel<T>{x.ptr<T>(), index.ptr<std::int32_t>(), y.ptr<T>(), cols, slots});
  });
}

}  // namespace jevons
