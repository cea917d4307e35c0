#include "kernels/norm.h"

#include "kernels/column_sums.h"
#include "kernels/op_call.h"
#include "kernels/row/launch.h"
#include "kernels/row/norm.h"

namespace jevons {
namespace {

HeadView whole_rows(const Tensor& x) {
  return {x, 0, 1, x.cols()};
}

// Sizes of a norm over the heads of a view: tokens, heads of each, elements of a head.
struct Extent {
  explicit Extent(const HeadView& x) : tokens(x.base.shape[0]), heads(x.heads), dim(x.head_dim) {}
  std::int64_t rows() const { return tokens * heads; }
  std::int64_t tokens, heads, dim;
};

template <class T>
RmsNormKernel<T> norm_kernel(const HeadView& x, const Tensor& w, float eps, const HeadView& y,
                             const Tensor& rstd) {
  using A = accumulator_t<T>;
  return {rows_of<const T>(x), w.ptr<A>(), rows_of<T>(y), rstd.ptr<A>(), static_cast<A>(eps)};
}

// x and y: whole rows or heads; rstd holds one value per normalised row.
void launch_norm(const Context& ctx, const HeadView& x, const Tensor& w, float eps, const HeadView& y,
                 const Tensor& rstd) {
  const Extent n(x);
  with_float_type(x.base.dtype, [&]<class T>(TypeTag<T>) {
    launch_rows(ctx, x.base.device, n.rows(), n.dim, norm_kernel<T>(x, w, eps, y, rstd));
  });
}

struct NormBackward {
  HeadView dy;
  HeadRmsNormSaved saved;
  HeadView residual;  // base undefined: none
  HeadView dx;
  Tensor dw;
};

// Rows whose part of dw is added up by one call of the kernel: part of the result's bits. A GPU needs more
// calls than a CPU, to fill its multiprocessors.
constexpr std::int64_t row_block_on(Device device) {
  return device == Device::kCuda ? 16 : 64;
}

void launch_norm_backward(const Context& ctx, const NormBackward& op) {
  ENSURE(ctx.work != nullptr, "a reduction needs the work arena");
  const Extent n(op.saved.x);
  const std::int64_t row_block = row_block_on(op.saved.x.base.device),
                     blocks = blocks_of(n.rows(), row_block);
  const ArenaScope scope(*ctx.work);
  const Tensor partial = ctx.work->alloc({blocks, n.dim}, op.dw.dtype);
  with_float_type(op.saved.x.base.dtype, [&]<class T>(TypeTag<T>) {
    using A = accumulator_t<T>;
    const RmsNormBackwardKernel<T> kernel{
        rows_of<const T>(op.dy),
        rows_of<const T>(op.saved.x),
        op.saved.w.ptr<A>(),
        op.saved.rstd.ptr<A>(),
        op.residual.base.defined() ? rows_of<const T>(op.residual) : Rows<const T>{},
        rows_of<T>(op.dx),
        partial.ptr<A>(),
        n.rows(),
        row_block};
    launch_rows(ctx, op.saved.x.base.device, blocks, row_block * n.dim, kernel);
  });
  column_sums(ctx, partial.reshape({1, blocks, n.dim}), op.dw, Sums::kAdd);
}

}  // namespace

void rmsnorm_forward(const Context& ctx, Tensor x, Tensor w, float eps, Tensor y, Tensor rstd) {
  const Shape matrix{x.rows(), x.cols()};
  const DType sums = accumulator_of(x.dtype);
  OpCall("rmsnorm_forward", x.device)
      .reads("x", x, matrix, x.dtype)
      .reads("w", w, {matrix[1]}, sums)
      .writes("y", y, matrix, x.dtype)
      .writes("rstd", rstd, {matrix[0]}, sums)
      .record(ctx, WorkKind::kRow);
  launch_norm(ctx, whole_rows(x), w, eps, whole_rows(y), rstd);
}

void add_rmsnorm_forward(const Context& ctx, Tensor x, Tensor r, Tensor w, float eps,
                         const AddRmsNormOutput& out) {
  const Shape matrix{x.rows(), x.cols()};
  const DType sums = accumulator_of(x.dtype);
  OpCall("add_rmsnorm_forward", x.device)
      .reads("x", x, matrix, x.dtype)
      .reads("r", r, matrix, x.dtype)
      .reads("w", w, {matrix[1]}, sums)
      .writes("h", out.h, matrix, x.dtype)
      .writes("y", out.y, matrix, x.dtype)
      .writes("rstd", out.rstd, {matrix[0]}, sums)
      .record(ctx, WorkKind::kRow);
  with_float_type(x.dtype, [&]<class T>(TypeTag<T>) {
    launch_rows(ctx, x.device, matrix[0], matrix[1],
                AddRmsNormKernel<T>{x.ptr<T>(), r.ptr<T>(), out.h.ptr<T>(),
                                    norm_kernel<T>(whole_rows(out.h), w, eps, whole_rows(out.y), out.rstd)});
  });
}

void rmsnorm_backward(const Context& ctx, Tensor dy, const RmsNormSaved& saved, Tensor dx_residual, Tensor dx,
                      Tensor dw) {
  const Tensor &x = saved.x, &w = saved.w, &rstd = saved.rstd;
  const Shape matrix{x.rows(), x.cols()};
  const DType sums = accumulator_of(x.dtype);
  OpCall call("rmsnorm_backward", x.device);
  call.reads("dy", dy, matrix, x.dtype)
      .reads("x", x, matrix, x.dtype)
      .reads("w", w, {matrix[1]}, sums)
      .reads("rstd", rstd, {matrix[0]}, sums)
      .writes("dx", dx, matrix, x.dtype)
      .updates("dw", dw, {matrix[1]}, sums);
  if (dx_residual.defined()) call.reads("dx_residual", dx_residual, matrix, x.dtype);
  call.record(ctx, WorkKind::kRow);
  launch_norm_backward(
      ctx, {whole_rows(dy), {whole_rows(x), w, rstd}, whole_rows(dx_residual), whole_rows(dx), dw});
}

void head_rmsnorm_forward(const Context& ctx, HeadView x, Tensor w, float eps, HeadView y, Tensor rstd) {
  const Extent n(x);
  const DType dtype = x.base.dtype, sums = accumulator_of(dtype);
  OpCall("head_rmsnorm_forward", x.base.device)
      .reads("x", x, x, dtype)
      .reads("w", w, {n.dim}, sums)
      .writes("y", y, x, dtype)
      .writes("rstd", rstd, {n.tokens, n.heads}, sums)
      .record(ctx, WorkKind::kRow);
  launch_norm(ctx, x, w, eps, y, rstd);
}

void head_rmsnorm_backward(const Context& ctx, HeadView dy, const HeadRmsNormSaved& saved, HeadView dx,
                           Tensor dw) {
  const HeadView& x = saved.x;
  const Tensor &w = saved.w, &rstd = saved.rstd;
  const Extent n(x);
  const DType dtype = x.base.dtype, sums = accumulator_of(dtype);
  OpCall("head_rmsnorm_backward", x.base.device)
      .reads("dy", dy, x, dtype)
      .reads("x", x, x, dtype)
      .reads("w", w, {n.dim}, sums)
      .reads("rstd", rstd, {n.tokens, n.heads}, sums)
      .writes("dx", dx, x, dtype)
      .updates("dw", dw, {n.dim}, sums)
      .record(ctx, WorkKind::kRow);
  launch_norm_backward(ctx, {dy, saved, {}, dx, dw});
}

}  // namespace jevons
