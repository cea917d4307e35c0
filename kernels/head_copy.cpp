#include "kernels/head_copy.h"

#include "kernels/op_call.h"
#include "kernels/row/head_copy.h"
#include "kernels/row/launch.h"

namespace jevons {
namespace {

// Over the rows of `of`.
HeadView heads_of(const HeadView& of, std::int64_t heads, std::int64_t head_dim) {
  return {of.base, 0, heads, head_dim};
}

// `tokens`: the side whose rows are tokens, `rows` the other.
void reorder(const Context& ctx, const char* op, HeadOrder order, HeadView tokens, HeadView rows) {
  const DType dtype = tokens.base.dtype;
  const std::int64_t count = tokens.base.shape[0];
  ENSURE(rows.heads == 1 && rows.base.shape[0] == count * tokens.heads,
         "{}: {} heads of {} rows, and {} rows with {} heads", op, tokens.heads, count, rows.base.shape[0],
         rows.heads);
  OpCall(op, tokens.base.device)
      .reads("tokens", tokens, tokens, dtype)
      .writes("rows", rows, heads_of(rows, 1, tokens.head_dim), dtype)
      .record(ctx, WorkKind::kRow);
  with_float_type(dtype, [&]<class T>(TypeTag<T>) {
    const bool to_rows = order == HeadOrder::kToRows;
    launch_rows(ctx, tokens.base.device, count * tokens.heads, tokens.head_dim,
                ReorderHeadsKernel<T>{rows_of<const T>(to_rows ? tokens : rows),
                                      rows_of<T>(to_rows ? rows : tokens), count, tokens.heads, order});
  });
}

}  // namespace

void heads_to_rows(const Context& ctx, HeadView x, HeadView y) {
  reorder(ctx, "heads_to_rows", HeadOrder::kToRows, x, y);
}

void rows_to_heads(const Context& ctx, HeadView x, HeadView y) {
  reorder(ctx, "rows_to_heads", HeadOrder::kFromRows, y, x);
}

void copy_heads(const Context& ctx, HeadView x, HeadView y) {
  const DType dtype = y.base.dtype;
  ENSURE(x.heads == 1 || x.heads == y.heads, "copy_heads: {} heads cannot become {}", x.heads, y.heads);
  OpCall("copy_heads", y.base.device)
      .reads("x", x, heads_of(y, x.heads, y.head_dim), dtype)
      .writes("y", y, y, dtype)
      .record(ctx, WorkKind::kRow);
  with_float_type(dtype, [&]<class T>(TypeTag<T>) {
    launch_rows(ctx, y.base.device, y.base.shape[0] * y.heads, y.head_dim,
                CopyHeadsKernel<T>{rows_of<const T>(x), rows_of<T>(y)});
  });
}

void sum_heads(const Context& ctx, HeadView x, HeadView y) {
  const DType dtype = x.base.dtype;
  ENSURE(x.heads > 0, "sum_heads: no heads");
  OpCall("sum_heads", x.base.device)
      .reads("x", x, x, dtype)
      .writes("y", y, heads_of(x, 1, x.head_dim), dtype)
      .record(ctx, WorkKind::kRow);
  with_float_type(dtype, [&]<class T>(TypeTag<T>) {
    launch_rows(ctx, x.base.device, x.base.shape[0], x.heads * x.head_dim,
                SumHeadsKernel<T>{rows_of<const T>(x), rows_of<T>(y)});
  });
}

}  // namespace jevons
