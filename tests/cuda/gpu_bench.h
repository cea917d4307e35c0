// The device side of a test: a stream, a context, tensors with memory of their own (so that the checker sees
// their bounds), and copies to and from the host. Pair it with a KernelBench for the CPU side.
#pragma once

#include <list>

#include "kernels/core/context.h"
#include "tests/cuda_emulation/control.h"
#include "tests/support/kernel_test.h"

namespace jevons::test {

class GpuBench {
 public:
  GpuBench()
      : stream(Device::kCuda),
        work_(Device::kCuda, "work", &stream),
        stash_(Device::kCuda, "stash", &stream) {
    ctx.device = Device::kCuda;
    ctx.stream = &stream;
    ctx.work = &work_;
    ctx.stash = &stash_;
    ctx.listener = &meter;
  }
  GpuBench(const GpuBench&) = delete;
  GpuBench& operator=(const GpuBench&) = delete;

  // Undefined: NaN in the float types, -1 in the integers, and uninitialised to the checker.
  Tensor undefined(Shape shape, DType dtype) { return make(shape, dtype, Contents::kUndefined); }
  Tensor zeros(Shape shape, DType dtype) { return make(shape, dtype, Contents::kZero); }
  Tensor upload(const Tensor& host) {
    const Tensor gpu = undefined(host.shape, host.dtype);
    copy_and_wait(&stream, gpu, host);
    return gpu;
  }
  // The contents once the stream has done its work; lives as long as the bench.
  Tensor download(const Tensor& gpu) {
    buffers_.emplace_back(Device::kCpu, gpu.bytes());
    const Tensor host = buffers_.back().view(0, gpu.shape, gpu.dtype);
    copy_and_wait(&stream, host, gpu);
    return host;
  }

  Stream stream;
  Context ctx;
  WorkMeter meter;

 private:
  Tensor make(Shape shape, DType dtype, Contents contents) {
    const std::size_t bytes = static_cast<std::size_t>(shape.numel()) * size_of(dtype);
    buffers_.emplace_back(Device::kCuda, bytes, contents);
    return buffers_.back().view(0, shape, dtype);
  }

  Arena work_, stash_;
  std::list<Buffer> buffers_;
};

// Runs a scope under other settings of the emulated device.
class EmulationScope {
 public:
  explicit EmulationScope(const emulation::Settings& settings) : before_(emulation::settings()) {
    emulation::configure(settings);
  }
  ~EmulationScope() { emulation::configure(before_); }
  EmulationScope(const EmulationScope&) = delete;
  EmulationScope& operator=(const EmulationScope&) = delete;

 private:
  emulation::Settings before_;
};

}  // namespace jevons::test
