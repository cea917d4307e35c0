#include "kernels/exact_squares.h"

#include <bit>
#include <mutex>

#include "kernels/cpu/launch.h"
#include "kernels/op_call.h"

namespace jevons {
namespace {

constexpr std::int64_t kElementsPerTask = 1 << 16;

// In the order of a binary tree, which a vector unit can follow. Missing squares are 0 and change nothing.
template <class T>
double block_sum(const T* x, std::int64_t count) {
  double squares[kSquaresBlock] = {};
  for (std::int64_t i = 0; i < count; ++i) squares[i] = static_cast<double>(x[i]) * static_cast<double>(x[i]);
  for (std::int64_t half = kSquaresBlock / 2; half > 0; half /= 2) {
    for (std::int64_t i = 0; i < half; ++i) squares[i] += squares[i + half];
  }
  return squares[0];
}

}  // namespace

void add_squares(const Context& ctx, Tensor x, std::int64_t block, ExactSum& sum) {
  OpCall("add_squares", x.device).reads("x", x, x.shape, x.dtype).record(ctx, WorkKind::kRow);
  ENSURE(block > 0 && block <= kSquaresBlock && std::has_single_bit(static_cast<std::uint64_t>(block)),
         "add_squares: blocks of {} elements", block);
  if (x.device == Device::kMeta) return;
  if (x.device == Device::kCuda) fail(ExitCode::kFailure, "add_squares: there is no CUDA back end");
  std::mutex mutex;
  with_float_type(x.dtype, [&]<class T>(TypeTag<T>) {
    if constexpr (std::is_same_v<T, bf16>) {
      fail(ExitCode::kFailure, "add_squares: x is bf16");
    } else {
      parallel_for(ctx, x.numel(), kElementsPerTask, [&](std::int64_t begin, std::int64_t end) {
        ExactSum part;
        for (std::int64_t i = begin; i < end; i += block) {
          part.add(block_sum(x.ptr<T>() + i, std::min(block, end - i)));
        }
        const std::lock_guard lock(mutex);
        sum.add(part);
      });
    }
  });
}

}  // namespace jevons
