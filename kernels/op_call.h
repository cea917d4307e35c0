// What every facade does before it runs: check its tensors, count their bytes, choose the C++ type of a
// dtype.
#pragma once

#include <type_traits>

#include "kernels/core/context.h"
#include "kernels/core/error.h"
#include "kernels/heads.h"

namespace jevons {

// One call of an op. Each tensor is declared with its role, shape and dtype; a wrong one throws
// Error(kFailure) with a message that names the op and the tensor. Bytes add up: one pass for what is read or
// written, two for what is updated.
class OpCall {
 public:
  // Every tensor must be on `device`.
  OpCall(const char* op, Device device) : op_(op), device_(device) {}

  OpCall& reads(const char* name, const Tensor& tensor, const Shape& shape, DType dtype);
  OpCall& writes(const char* name, const Tensor& tensor, const Shape& shape, DType dtype);
  OpCall& updates(const char* name, const Tensor& tensor, const Shape& shape, DType dtype);
  // Only some rows are touched: checked, not counted. Count them with moves().
  OpCall& uses(const char* name, const Tensor& tensor, const Shape& shape, DType dtype);
  OpCall& moves(double bytes);
  // `rows` rows of `heads` heads of `head_dim`, inside the columns of the base.
  OpCall& reads(const char* name, const HeadView& view, const HeadView& like, DType dtype);
  OpCall& writes(const char* name, const HeadView& view, const HeadView& like, DType dtype);
  OpCall& updates(const char* name, const HeadView& view, const HeadView& like, DType dtype);
  OpCall& uses(const char* name, const HeadView& view, const HeadView& like, DType dtype);

  // Rows and optimizers: memory traffic only.
  void record(const Context& ctx, WorkKind kind) const {
    ctx.record({.kind = kind, .op = op_, .bytes = bytes_});
  }
  void record(const Context& ctx, WorkKind kind, DType dtype, const WorkSizes& sizes, double flops) const {
    ctx.record(
        {.kind = kind, .op = op_, .dtype = name_of(dtype), .sizes = sizes, .flops = flops, .bytes = bytes_});
  }

 private:
  void check(const char* name, const Tensor& tensor, const Shape& shape, DType dtype) const;
  double check(const char* name, const HeadView& view, const HeadView& like, DType dtype) const;

  const char* op_;
  Device device_;
  double bytes_ = 0;
};

template <class T>
struct TypeTag {
  using type = T;
};

// Calls f(TypeTag<T>{}) with the C++ type of a floating-point dtype.
template <class F>
decltype(auto) with_float_type(DType dtype, F&& f) {
  switch (dtype) {
    case DType::kF32:
      return f(TypeTag<float>{});
    case DType::kBF16:
      return f(TypeTag<bf16>{});
    case DType::kF64:
      return f(TypeTag<double>{});
    default:
      fail(ExitCode::kFailure, "{} where f32, bf16 or f64 is wanted", name_of(dtype));
  }
}

// The same for an accumulator dtype, f32 or f64.
template <class F>
decltype(auto) with_accumulator_type(DType dtype, F&& f) {
  if (dtype == DType::kF64) return f(TypeTag<double>{});
  ENSURE(dtype == DType::kF32, "{} where f32 or f64 is wanted", name_of(dtype));
  return f(TypeTag<float>{});
}

}  // namespace jevons
