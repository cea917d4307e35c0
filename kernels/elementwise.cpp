#include "kernels/elementwise.h"

#include <numeric>

#include "kernels/host_view.h"
#include "kernels/op_call.h"
#include "kernels/row/elementwise.h"
#include "kernels/row/launch.h"
#include "kernels/row/reduce.h"

namespace jevons {
namespace {

// (blocks, 1) in the work arena: one value per block of `x`, which the kernel made by `make(partial)` writes.
template <class V, class Make>
Tensor reduce_blocks(const Context& ctx, const Tensor& x, Make make) {
  const Tensor partial = ctx.work->alloc({flat_blocks(x.numel()), 1}, dtype_of<V>::value);
  launch_flat(ctx, x.device, x.numel(), make(partial.ptr<V>()));
  return partial;
}

Arena& scratch_of(const Context& ctx) {
  ENSURE(ctx.work != nullptr, "a reduction needs the work arena");
  return *ctx.work;
}

}  // namespace

void fill_zero(const Context& ctx, Tensor y) {
  OpCall("fill_zero", y.device).writes("y", y, y.shape, y.dtype).record(ctx, WorkKind::kRow);
  const auto bytes = static_cast<std::int64_t>(y.bytes());
  launch_flat(ctx, y.device, bytes, FillZeroKernel{static_cast<std::uint8_t*>(y.data), bytes});
}

void copy(const Context& ctx, Tensor x, Tensor y) {
  OpCall("copy", x.device)
      .reads("x", x, x.shape, x.dtype)
      .writes("y", y, x.shape, x.dtype)
      .record(ctx, WorkKind::kRow);
  const auto bytes = static_cast<std::int64_t>(x.bytes());
  launch_flat(
      ctx, x.device, bytes,
      CopyKernel{static_cast<const std::uint8_t*>(x.data), static_cast<std::uint8_t*>(y.data), bytes});
}

void cast(const Context& ctx, Tensor x, Tensor y) {
  OpCall("cast", x.device)
      .reads("x", x, x.shape, x.dtype)
      .writes("y", y, x.shape, y.dtype)
      .record(ctx, WorkKind::kRow);
  with_float_type(x.dtype, [&]<class From>(TypeTag<From>) {
    with_float_type(y.dtype, [&]<class To>(TypeTag<To>) {
      launch_flat(ctx, x.device, x.numel(), CastKernel<From, To>{x.ptr<From>(), y.ptr<To>(), x.numel()});
    });
  });
}

void add(const Context& ctx, Tensor a, Tensor b, Tensor y) {
  OpCall("add", a.device)
      .reads("a", a, a.shape, a.dtype)
      .reads("b", b, a.shape, a.dtype)
      .writes("y", y, a.shape, a.dtype)
      .record(ctx, WorkKind::kRow);
  with_float_type(a.dtype, [&]<class T>(TypeTag<T>) {
    launch_flat(ctx, a.device, a.numel(), AddKernel<T>{a.ptr<T>(), b.ptr<T>(), y.ptr<T>(), a.numel()});
  });
}

void add_scaled(const Context& ctx, double scale, Tensor x, Tensor y) {
  OpCall("add_scaled", y.device)
      .reads("x", x, y.shape, x.dtype)
      .updates("y", y, y.shape, y.dtype)
      .record(ctx, WorkKind::kRow);
  with_float_type(x.dtype, [&]<class X>(TypeTag<X>) {
    with_float_type(y.dtype, [&]<class Y>(TypeTag<Y>) {
      const auto factor = static_cast<accumulator_t<Y>>(scale);
      launch_flat(ctx, y.device, y.numel(), AddScaledKernel<X, Y>{factor, x.ptr<X>(), y.ptr<Y>(), y.numel()});
    });
  });
}

void add_weighted(const Context& ctx, double a, Tensor x, double b, Tensor y, Tensor z) {
  OpCall("add_weighted", y.device)
      .reads("x", x, y.shape, x.dtype)
      .reads("y", y, y.shape, accumulator_of(x.dtype))
      .writes("z", z, y.shape, z.dtype)
      .record(ctx, WorkKind::kRow);
  ENSURE(accumulator_of(z.dtype) == y.dtype, "add_weighted: {} from {}", z.to_string(), y.to_string());
  with_float_type(x.dtype, [&]<class X>(TypeTag<X>) {
    with_float_type(z.dtype, [&]<class Z>(TypeTag<Z>) {
      using A = accumulator_t<X>;
      if constexpr (std::is_same_v<A, accumulator_t<Z>>) {
        launch_flat(ctx, y.device, y.numel(),
                    AddWeightedKernel<X, Z>{static_cast<A>(a), static_cast<A>(b), x.ptr<X>(), y.ptr<A>(),
                                            z.ptr<Z>(), y.numel()});
      }
    });
  });
}

void normalise(const Context& ctx, Tensor x, Tensor squares, double eps, Tensor y) {
  OpCall("normalise", x.device)
      .reads("x", x, x.shape, accumulator_of(y.dtype))
      .reads("squares", squares, {1}, DType::kF64)
      .writes("y", y, x.shape, y.dtype)
      .record(ctx, WorkKind::kRow);
  with_float_type(y.dtype, [&]<class Y>(TypeTag<Y>) {
    using A = accumulator_t<Y>;
    launch_flat(ctx, x.device, x.numel(),
                NormaliseKernel<A, Y>{x.ptr<A>(), squares.ptr<double>(), eps, y.ptr<Y>(), x.numel()});
  });
}

void scale_inplace(const Context& ctx, double scale, Tensor y) {
  OpCall("scale_inplace", y.device).updates("y", y, y.shape, y.dtype).record(ctx, WorkKind::kRow);
  with_float_type(y.dtype, [&]<class T>(TypeTag<T>) {
    const auto factor = static_cast<accumulator_t<T>>(scale);
    launch_flat(ctx, y.device, y.numel(), ScaleKernel<T>{factor, y.ptr<T>(), y.numel()});
  });
}

void add_sum_of_squares(const Context& ctx, Tensor x, Tensor y) {
  OpCall("add_sum_of_squares", x.device)
      .reads("x", x, x.shape, x.dtype)
      .updates("y", y, {1}, DType::kF64)
      .record(ctx, WorkKind::kRow);
  const ArenaScope scope(scratch_of(ctx));
  const Tensor partial = with_float_type(x.dtype, [&]<class T>(TypeTag<T>) {
    return reduce_blocks<double>(ctx, x, [&](double* sums) {
      return SumOfSquaresKernel<T>{x.ptr<T>(), sums, x.numel()};
    });
  });
  add_column_sums(ctx, 1, partial, y);
}

void add_column_sums(const Context& ctx, double scale, Tensor x, Tensor y) {
  const std::int64_t rows = x.rows(), cols = x.cols();
  OpCall("add_column_sums", x.device)
      .reads("x", x, {rows, cols}, accumulator_of(x.dtype))
      .updates("y", y, {cols}, DType::kF64)
      .record(ctx, WorkKind::kRow);
  with_float_type(x.dtype, [&]<class T>(TypeTag<T>) {
    using A = accumulator_t<T>;
    launch_rows(ctx, x.device, cols, rows,
                AddColumnSumsKernel<A>{x.ptr<A>(), y.ptr<double>(), scale, rows, cols});
  });
}

void take_column_max(const Context& ctx, Tensor x, Tensor y) {
  const std::int64_t rows = x.rows(), cols = x.cols();
  OpCall("take_column_max", x.device)
      .reads("x", x, {rows, cols}, accumulator_of(x.dtype))
      .updates("y", y, {cols}, x.dtype)
      .record(ctx, WorkKind::kRow);
  with_accumulator_type(x.dtype, [&]<class A>(TypeTag<A>) {
    launch_rows(ctx, x.device, cols, rows, TakeColumnMaxKernel<A>{x.ptr<A>(), y.ptr<A>(), rows, cols});
  });
}

std::int64_t count_nonfinite(const Context& ctx, Tensor x) {
  OpCall("count_nonfinite", x.device).reads("x", x, x.shape, x.dtype).record(ctx, WorkKind::kRow);
  const ArenaScope scope(scratch_of(ctx));
  const Tensor partial = with_float_type(x.dtype, [&]<class T>(TypeTag<T>) {
    return reduce_blocks<std::int64_t>(ctx, x, [&](std::int64_t* counts) {
      return CountNonfiniteKernel<T>{x.ptr<T>(), counts, x.numel()};
    });
  });
  if (x.device == Device::kMeta) return 0;
  const auto counts = host_view(ctx, partial).span<std::int64_t>();
  return std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
}

}  // namespace jevons
