#include "kernels/column_sums.h"

#include <algorithm>

#include "kernels/op_call.h"
#include "kernels/row/launch.h"
#include "kernels/row/reduce.h"
#include "kernels/row/scalar.h"

namespace jevons {
namespace {

constexpr std::int64_t kGpuRun = 32;

void sum_runs(const Context& ctx, const Tensor& x, std::int64_t run, const Tensor& sums, Sums mode) {
  const std::int64_t batches = x.shape[0], rows = x.shape[1], cols = x.shape[2];
  with_float_type(x.dtype, [&]<class T>(TypeTag<T>) {
    using A = accumulator_t<T>;
    launch_rows(ctx, x.device, batches * blocks_of(rows, run) * blocks_of(cols, kColumnBlock),
                run * kColumnBlock,
                ColumnSumsKernel<A>{x.ptr<A>(), sums.ptr<A>(), rows, cols, run, mode == Sums::kAdd});
  });
}

}  // namespace

void column_sums(const Context& ctx, Tensor x, Tensor sums, Sums mode) {
  ENSURE(ctx.work != nullptr, "a reduction needs the work arena");
  const ArenaScope scope(*ctx.work);
  while (x.device == Device::kCuda && x.shape[1] > kGpuRun) {
    const std::int64_t runs = blocks_of(x.shape[1], kGpuRun);
    const Tensor shorter = ctx.work->alloc({x.shape[0], runs, x.shape[2]}, x.dtype);
    sum_runs(ctx, x, kGpuRun, shorter, Sums::kAssign);
    x = shorter;
  }
  sum_runs(ctx, x, std::max<std::int64_t>(x.shape[1], 1), sums, mode);
}

}  // namespace jevons
