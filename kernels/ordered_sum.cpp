#include "kernels/ordered_sum.h"

#include "kernels/core/error.h"
#include "kernels/cpu/row_launch.h"
#include "kernels/op_call.h"
#include "kernels/row/launch.h"
#include "kernels/row/ordered_sum.h"

namespace jevons {
namespace {

// Calls f(TypeTag<T>{}) with the C++ type of a dtype whose elements can be summed.
template <class F>
void with_number_type(DType dtype, F f) {
  if (dtype == DType::kI32) return f(TypeTag<std::int32_t>{});
  if (dtype == DType::kI64) return f(TypeTag<std::int64_t>{});
  if (dtype == DType::kU8) fail(ExitCode::kFailure, "cannot sum elements of type {}", name_of(dtype));
  with_float_type(dtype, f);
}

}  // namespace

void reduce_in_rank_order(ReduceOp op, DType dtype, std::span<const void* const> parts, std::int64_t n,
                          void* out) {
  with_number_type(dtype, [&]<class T>(TypeTag<T>) {
    const OrderedSumKernel<T> kernel{.parts = {.table = parts.data()},
                                     .count = static_cast<std::int64_t>(parts.size()),
                                     .n = n,
                                     .op = op,
                                     .out = static_cast<T*>(out)};
    cpu::launch_rows(1, blocks_of(n, kOrderedSumBlock), kOrderedSumBlock, kernel);
  });
}

void reduce_in_rank_order(const Stream& stream, ReduceOp op, DType dtype, const DeviceParts& parts,
                          void* out) {
  if (parts.n == 0) return;
  with_number_type(dtype, [&]<class T>(TypeTag<T>) {
    const OrderedSumKernel<T> kernel{
        .parts = {.first = static_cast<const T*>(parts.data), .stride = parts.stride},
        .count = parts.count,
        .n = parts.n,
        .op = op,
        .out = static_cast<T*>(out)};
    cuda::launch_rows(stream, blocks_of(parts.n, kOrderedSumBlock), kOrderedSumBlock, kernel);
  });
}

}  // namespace jevons
