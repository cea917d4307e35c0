// What a benchmark on a GPU works with: a context for its ops, and tensors until they are forgotten.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <list>
#include <string>

#include "kernels/core/context.h"
#include "kernels/core/rng.h"
#include "kernels/elementwise.h"

namespace jevons {

class GpuBed {
 protected:
  GpuBed() = default;
  GpuBed(const GpuBed&) = delete;
  GpuBed& operator=(const GpuBed&) = delete;

  // Normal numbers: zeros would flatter the matrix units.
  Tensor random(Shape shape, DType dtype) {
    const Tensor t = undefined(shape, dtype);
    const std::int64_t period = std::min<std::int64_t>(t.numel(), 1 << 20);
    const Buffer source(Device::kCpu, static_cast<std::size_t>(period) * sizeof(float));
    const Tensor host = source.view(0, {period}, DType::kF32);
    const RandomStream numbers(1, std::to_string(memory_.size()));
    for (std::int64_t i = 0; i < period; ++i) host.ptr<float>()[i] = static_cast<float>(numbers.normal(i));
    const Buffer device(Device::kCuda, source.bytes());
    const Tensor block = device.view(0, {period}, DType::kF32);
    copy_and_wait(&stream_, block, host);
    const Tensor flat = t.reshape({t.numel()});
    for (std::int64_t begin = 0; begin < t.numel(); begin += period) {
      const std::int64_t n = std::min(period, t.numel() - begin);
      cast(ctx_, block.slice(0, n), flat.slice(begin, begin + n));
    }
    stream_.synchronise();
    return t;
  }
  Tensor undefined(Shape shape, DType dtype) {
    memory_.emplace_back(Device::kCuda, static_cast<std::size_t>(shape.numel()) * size_of(dtype),
                         Contents::kUndefined);
    return memory_.back().view(0, shape, dtype);
  }
  Tensor integers(Shape shape, const std::function<std::int64_t(std::int64_t)>& value) {
    const Buffer source(Device::kCpu, static_cast<std::size_t>(shape.numel()) * sizeof(std::int32_t));
    const Tensor host = source.view(0, shape, DType::kI32), t = undefined(shape, DType::kI32);
    for (std::int64_t i = 0; i < shape.numel(); ++i)
      host.ptr<std::int32_t>()[i] = static_cast<std::int32_t>(value(i));
    copy_and_wait(&stream_, t, host);
    return t;
  }
  void forget() { memory_.clear(); }

  Stream stream_{Device::kCuda};
  Arena work_{Device::kCuda, "work", &stream_};
  WorkMeter meter_;
  Context ctx_{.device = Device::kCuda,
               .compute = DType::kBF16,
               .stash = &work_,
               .work = &work_,
               .listener = &meter_,
               .stream = &stream_};

 private:
  std::list<Buffer> memory_;
};

}  // namespace jevons
