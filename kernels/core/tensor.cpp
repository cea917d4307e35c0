#include "kernels/core/tensor.h"

#include <algorithm>

#include "kernels/core/error.h"

namespace jevons {

std::string_view name_of(Device device) {
  switch (device) {
    case Device::kCpu:
      return "cpu";
    case Device::kCuda:
      return "cuda";
    case Device::kMeta:
      return "meta";
  }
  return "?";
}

Shape::Shape(std::initializer_list<std::int64_t> dims)
    : Shape(std::span<const std::int64_t>(dims.begin(), dims.size())) {}

Shape::Shape(std::span<const std::int64_t> dims) : ndim_(static_cast<int>(dims.size())) {
  ENSURE(ndim_ <= kMaxDims, "a tensor has at most {} dims, got {}", kMaxDims, ndim_);
  std::copy(dims.begin(), dims.end(), dims_.begin());
  for (std::int64_t d : dims) ENSURE(d >= 0, "negative dim in shape {}", to_string());
}

std::int64_t Shape::numel() const {
  std::int64_t n = ndim_ == 0 ? 0 : 1;
  for (std::int64_t d : dims()) n *= d;
  return n;
}

std::string Shape::to_string() const {
  std::string text = "(";
  for (int i = 0; i < ndim_; ++i) text += fmt::format("{}{}", i == 0 ? "" : ", ", (*this)[i]);
  return text + ")";
}

void* address_of_nothing() {
  alignas(256) static std::byte nothing{};  // no operand of a library is aligned more
  return &nothing;
}

Tensor Tensor::reshape(Shape new_shape) const {
  ENSURE(new_shape.numel() == numel(), "cannot view {} as {}", to_string(), new_shape.to_string());
  Tensor t = *this;
  t.shape = new_shape;
  return t;
}

Tensor Tensor::slice(std::int64_t begin, std::int64_t end) const {
  ENSURE(defined() && 0 <= begin && begin <= end && end <= shape[0], "slice [{}, {}) of {}", begin, end,
         to_string());
  std::array<std::int64_t, Shape::kMaxDims> dims{};
  std::copy(shape.dims().begin(), shape.dims().end(), dims.begin());
  dims[0] = end - begin;
  const std::int64_t row = shape[0] == 0 ? 0 : numel() / shape[0];
  Tensor t = *this;
  t.shape = Shape(std::span<const std::int64_t>(dims.data(), shape.dims().size()));
  if (device == Device::kMeta) return t;
  t.data = t.numel() == 0
               ? address_of_nothing()
               : static_cast<std::byte*>(data) + static_cast<std::size_t>(begin * row) * size_of(dtype);
  return t;
}

std::string Tensor::to_string() const {
  return fmt::format("{} {} on {}", name_of(dtype), shape.to_string(), name_of(device));
}

void Tensor::wrong_dtype(DType wanted) const {
  ENSURE(wanted == dtype, "{} accessed as {}", to_string(), name_of(wanted));
  std::abort();  // not reached
}

}  // namespace jevons
