#include "kernels/op_call.h"

namespace jevons {

OpCall& OpCall::reads(const char* name, const Tensor& tensor, const Shape& shape, DType dtype) {
  uses(name, tensor, shape, dtype);
  return moves(static_cast<double>(tensor.bytes()));
}

OpCall& OpCall::writes(const char* name, const Tensor& tensor, const Shape& shape, DType dtype) {
  return reads(name, tensor, shape, dtype);
}

OpCall& OpCall::updates(const char* name, const Tensor& tensor, const Shape& shape, DType dtype) {
  uses(name, tensor, shape, dtype);
  return moves(2 * static_cast<double>(tensor.bytes()));
}

OpCall& OpCall::uses(const char* name, const Tensor& tensor, const Shape& shape, DType dtype) {
  check(name, tensor, shape, dtype);
  return *this;
}

OpCall& OpCall::moves(double bytes) {
  bytes_ += bytes;
  return *this;
}

OpCall& OpCall::reads(const char* name, const HeadView& view, const HeadView& like, DType dtype) {
  return moves(check(name, view, like, dtype));
}

OpCall& OpCall::writes(const char* name, const HeadView& view, const HeadView& like, DType dtype) {
  return moves(check(name, view, like, dtype));
}

OpCall& OpCall::updates(const char* name, const HeadView& view, const HeadView& like, DType dtype) {
  return moves(2 * check(name, view, like, dtype));
}

OpCall& OpCall::uses(const char* name, const HeadView& view, const HeadView& like, DType dtype) {
  check(name, view, like, dtype);
  return *this;
}

void OpCall::check(const char* name, const Tensor& tensor, const Shape& shape, DType dtype) const {
  ENSURE(tensor.shape == shape && tensor.dtype == dtype && tensor.device == device_,
         "{}: {} is {}, wanted {} {} on {}", op_, name, tensor.to_string(), name_of(dtype), shape.to_string(),
         name_of(device_));
}

double OpCall::check(const char* name, const HeadView& view, const HeadView& like, DType dtype) const {
  check(name, view.base, {like.base.shape[0], view.base.cols()}, dtype);
  ENSURE(view.heads == like.heads && view.head_dim == like.head_dim,
         "{}: {} has {} heads of {}, wanted {} of {}", op_, name, view.heads, view.head_dim, like.heads,
         like.head_dim);
  ENSURE(view.pitch() >= view.head_dim && view.first_col >= 0 &&
             view.first_col + view.width() <= view.base.cols(),
         "{}: {}: {} heads of {} from column {} do not fit in {}, one every {} columns", op_, name,
         view.heads, view.head_dim, view.first_col, view.base.to_string(), view.pitch());
  return static_cast<double>(like.base.shape[0] * view.heads * view.head_dim) *
         static_cast<double>(size_of(dtype));
}

}  // namespace jevons
