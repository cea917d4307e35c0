// Elements of host tensors as doubles, whatever their dtype, and comparison with an fp64 reference.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <vector>

#include "kernels/core/tensor.h"
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
