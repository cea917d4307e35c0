// Helpers of kernel tests: tensors filled with random numbers, NaN or given values, and ops run on them.
#pragma once

#include <cstring>
#include <functional>
#include <optional>
#include <string>

#include "kernels/core/context.h"
#include "kernels/core/rng.h"
#include "tests/support/device_run.h"
#include "tests/support/elements.h"

namespace jevons::test {

// The memory and the Context of one test. Tensors live as long as the bench, in host memory (or on kMeta).
class KernelBench {
 public:
  explicit KernelBench(int threads = 1, Device device = Device::kCpu)
      : work_(device, "work"), stash_(device, "stash"), tensors_(device, "tensors") {
    ctx.device = device;
    ctx.work = &work_;
    ctx.stash = &stash_;
    ctx.listener = &meter;
    ctx.threads = threads;
  }
  KernelBench(const KernelBench&) = delete;
  KernelBench& operator=(const KernelBench&) = delete;

  // op(ctx, arguments...) on the device under test, or on kMeta if that is the bench's.
  template <class R, class... P>
  R run(R (*op)(const Context&, P...), std::type_identity_t<P>... arguments) {
    if (ctx.device == Device::kMeta || device_under_test() == Device::kCpu) return op(ctx, arguments...);
    if (!gpu_) gpu_.emplace();
    return gpu_->run(ctx, op, arguments...);
  }

  // Every byte 0xff: NaN in the float types, -1 in the integers.
  Tensor poisoned(Shape shape, DType dtype) {
    Tensor t = tensors_.alloc(shape, dtype);
    if (t.data != nullptr) std::memset(t.data, 0xff, t.bytes());
    return t;
  }
  Tensor filled(Shape shape, DType dtype, const std::function<double(std::int64_t)>& value) {
    Tensor t = poisoned(shape, dtype);
    if (t.data != nullptr) fill(t, value);
    return t;
  }
  // Normal with the given standard deviation; each call draws new numbers, the same in every run.
  Tensor random(Shape shape, DType dtype, double deviation = 1) {
    const RandomStream stream(1, std::to_string(next_++));
    return filled(shape, dtype, [&](std::int64_t i) { return deviation * stream.normal(i); });
  }
  // Uniform integers in [low, high).
  Tensor integers(Shape shape, std::int64_t low, std::int64_t high, DType dtype = DType::kI32) {
    const RandomStream stream(1, std::to_string(next_++));
    const auto draw = [&](std::int64_t i) {
      return low + static_cast<std::int64_t>(stream.below(i, high - low));
    };
    return filled(shape, dtype, [&](std::int64_t i) { return static_cast<double>(draw(i)); });
  }
  Tensor clone(const Tensor& t) {
    Tensor copy = poisoned(t.shape, t.dtype);
    if (copy.data != nullptr && copy.bytes() > 0) std::memcpy(copy.data, t.data, t.bytes());
    return copy;
  }

  Context ctx;
  WorkMeter meter;

 private:
  Arena work_, stash_, tensors_;
  std::optional<DeviceRun> gpu_;
  int next_ = 0;
};

}  // namespace jevons::test
