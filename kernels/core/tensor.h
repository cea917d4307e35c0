// Tensor: a trivially copyable, contiguous, row-major, typed view with a device. It owns nothing; Buffer,
// Arena and ParamStore own memory. A kMeta tensor has a shape and a dtype but no memory: ops on it only check
// and count.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <type_traits>

#include "kernels/core/dtype.h"

namespace jevons {

enum class Device : std::uint8_t { kCpu, kCuda, kMeta };
std::string_view name_of(Device device);

// Up to four dims, each >= 0.
class Shape {
 public:
  static constexpr int kMaxDims = 4;
  Shape() = default;
  Shape(std::initializer_list<std::int64_t> dims);
  explicit Shape(std::span<const std::int64_t> dims);

  int ndim() const { return ndim_; }
  std::int64_t operator[](int dim) const { return dims_[static_cast<std::size_t>(dim)]; }
  std::int64_t numel() const;
  std::span<const std::int64_t> dims() const { return {dims_.data(), static_cast<std::size_t>(ndim_)}; }
  bool operator==(const Shape&) const = default;
  std::string to_string() const;  // "(2, 3)"

 private:
  std::array<std::int64_t, kMaxDims> dims_{};
  int ndim_ = 0;
};

// An address at which no tensor with elements lies: that of views of nothing.
void* address_of_nothing();

// A tensor of no elements never has the address of another that has some.
struct Tensor {
  void* data = nullptr;
  Shape shape;
  DType dtype = DType::kF32;
  Device device = Device::kCpu;

  bool defined() const { return shape.ndim() > 0; }
  std::int64_t numel() const { return shape.numel(); }
  std::size_t bytes() const { return static_cast<std::size_t>(numel()) * size_of(dtype); }
  // As a matrix (rows, cols): cols is the last dim.
  std::int64_t cols() const { return shape.ndim() == 0 ? 0 : shape[shape.ndim() - 1]; }
  std::int64_t rows() const { return cols() == 0 ? 0 : numel() / cols(); }

  // Typed pointer; throws if T is not the tensor's dtype.
  template <class T>
  T* ptr() const {
    expect_dtype(dtype_of<std::remove_const_t<T>>::value);
    return static_cast<T*>(data);
  }
  template <class T>
  std::span<T> span() const {
    return {ptr<T>(), static_cast<std::size_t>(numel())};
  }
  // Same elements under another shape; throws if the count differs.
  Tensor reshape(Shape new_shape) const;
  // Elements [begin, end) of dim 0.
  Tensor slice(std::int64_t begin, std::int64_t end) const;
  // "bf16 (4, 8) on cpu", for messages.
  std::string to_string() const;

 private:
  void expect_dtype(DType wanted) const {
    if (wanted != dtype) wrong_dtype(wanted);
  }
  [[noreturn]] void wrong_dtype(DType wanted) const;
};
static_assert(std::is_trivially_copyable_v<Tensor>);

}  // namespace jevons
