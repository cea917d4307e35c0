// Helpers of kernel tests: tensors filled with random numbers, NaN or given values, and comparison with an
// fp64 reference.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "kernels/core/context.h"
#include "kernels/core/rng.h"
#include "kernels/row/scalar.h"
#include "tests/support/catch.h"

namespace jevons::test {

template <class F>
void visit_elements(const Tensor& t, F f) {
  const auto all = [&](auto* p) {
    for (std::int64_t i = 0; i < t.numel(); ++i) f(p[i], i);
  };
  switch (t.dtype) {
    case DType::kF32:
      return all(t.ptr<float>());
    case DType::kBF16:
      return all(t.ptr<bf16>());
    case DType::kF64:
      return all(t.ptr<double>());
    case DType::kI32:
      return all(t.ptr<std::int32_t>());
    case DType::kI64:
      return all(t.ptr<std::int64_t>());
    case DType::kU8:
      return all(t.ptr<std::uint8_t>());
  }
}

// Every element as a double, exactly (i64 up to 2^53).
inline std::vector<double> to_doubles(const Tensor& t) {
  std::vector<double> out(static_cast<std::size_t>(t.numel()));
  visit_elements(t, [&](auto v, std::int64_t i) { out[static_cast<std::size_t>(i)] = convert<double>(v); });
  return out;
}

// element i = value(i), rounded to the tensor's dtype.
template <class F>
void fill(const Tensor& t, F value) {
  visit_elements(t, [&](auto& v, std::int64_t i) {
    v = convert<std::remove_reference_t<decltype(v)>>(static_cast<double>(value(i)));
  });
}

// The memory and the Context of one test. Tensors live as long as the bench.
class KernelBench {
 public:
  explicit KernelBench(int threads = 1, Device device = Device::kCpu)
      : work_(device, "work"), stash_(device, "stash"), tensors_(device, "tensors") {
    ctx.device = device;
    ctx.work = &work_;
    ctx.stash = &stash_;
    ctx.meter = &meter;
    ctx.threads = threads;
  }
  KernelBench(const KernelBench&) = delete;
  KernelBench& operator=(const KernelBench&) = delete;

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
  int next_ = 0;
};

inline bool same_bits(const Tensor& a, const Tensor& b) {
  return a.shape == b.shape && a.dtype == b.dtype &&
         (a.bytes() == 0 || std::memcmp(a.data, b.data, a.bytes()) == 0);
}

// Relative error that one rounding to `dtype` plus a short sum in its accumulator explains.
inline double tolerance(DType dtype) {
  return dtype == DType::kF64 ? 1e-12 : dtype == DType::kF32 ? 2e-6 : 0.005;
}

// Largest |got - want| / max(1, |want|); infinite when a NaN or an infinity is on one side only.
inline double max_error(const Tensor& got, const std::vector<double>& want) {
  const std::vector<double> values = to_doubles(got);
  REQUIRE(values.size() == want.size());
  double worst = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    if (values[i] == want[i] || (std::isnan(values[i]) && std::isnan(want[i]))) continue;
    const double error = std::abs(values[i] - want[i]) / std::max(1.0, std::abs(want[i]));
    if (!(error <= worst)) worst = std::isnan(error) ? std::numeric_limits<double>::infinity() : error;
  }
  return worst;
}

// Largest difference between `gradient` and central differences of `loss` over every element of `parameter`,
// both f64.
inline double gradient_error(const Tensor& parameter, const Tensor& gradient,
                             const std::function<double()>& loss, double step = 1e-5) {
  double worst = 0;
  for (std::int64_t i = 0; i < parameter.numel(); ++i) {
    double& p = parameter.ptr<double>()[i];
    const double at = p;
    p = at + step;
    const double above = loss();
    p = at - step;
    const double below = loss();
    p = at;
    worst = std::max(worst, std::abs((above - below) / (2 * step) - gradient.ptr<double>()[i]));
  }
  return worst;
}

}  // namespace jevons::test
