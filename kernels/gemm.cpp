#include "kernels/gemm.h"

#include <vector>

#include "kernels/core/error.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cuda/gemm.h"

namespace jevons {
namespace {

enum class Form { kForward, kBackwardInput, kBackwardWeight };

// The three tensors of a linear layer in the roles of one form: `rows_out` is y or dy, `rows_in` is x or dx,
// `weight` is w or dw with an optional leading dim of groups.
struct Linear {
  Form form;
  Tensor rows_in, weight, rows_out;
  std::int64_t rows, in, out;
};

Linear checked(Form form, Tensor rows_in, Tensor weight, Tensor rows_out, std::int64_t groups) {
  ENSURE(rows_in.shape.ndim() == 2 && rows_out.shape.ndim() == 2, "rows must be matrices: {}, {}",
         rows_in.to_string(), rows_out.to_string());
  const Linear l{form, rows_in, weight, rows_out, rows_in.shape[0], rows_in.shape[1], rows_out.shape[1]};
  const Shape wanted = groups < 0 ? Shape{l.out, l.in} : Shape{groups, l.out, l.in};
  ENSURE(weight.shape == wanted && rows_out.shape[0] == l.rows,
         "linear of {} by {} gives {}, weight should be {}", rows_in.to_string(), weight.to_string(),
         rows_out.to_string(), wanted.to_string());
  const DType weight_dtype = form == Form::kBackwardWeight ? accumulator_of(rows_in.dtype) : rows_in.dtype;
  ENSURE(rows_out.dtype == rows_in.dtype && weight.dtype == weight_dtype,
         "linear of {} by {} gives {}: dtypes differ", rows_in.to_string(), weight.to_string(),
         rows_out.to_string());
  ENSURE(rows_in.device == weight.device && rows_out.device == weight.device,
         "linear: tensors on several devices");
  return l;
}

void record(const Context& ctx, const Linear& l, WorkKind kind) {
  const double flops =
      2.0 * static_cast<double>(l.rows) * static_cast<double>(l.in) * static_cast<double>(l.out);
  const std::size_t read_again = l.form == Form::kBackwardWeight ? l.weight.bytes() : 0;  // += reads dw too
  const std::size_t bytes = l.rows_in.bytes() + l.weight.bytes() + l.rows_out.bytes() + read_again;
  ctx.record(kind, flops, static_cast<double>(bytes));
}

// Rows [begin, end) with the weight matrix of `group`.
Product product_of(const Linear& l, std::int64_t group, std::int64_t begin, std::int64_t end) {
  const auto at = [](const Tensor& t, std::int64_t element) {
    return static_cast<char*>(t.data) + element * static_cast<std::int64_t>(size_of(t.dtype));
  };
  char* const x = at(l.rows_in, begin * l.in);
  char* const y = at(l.rows_out, begin * l.out);
  char* const w = at(l.weight, group * l.out * l.in);
  const std::int64_t rows = end - begin;
  switch (l.form) {
    case Form::kForward:  // y = x w^T
      return {rows, l.out, l.in,           {x, l.in, Contiguous::kInner}, {w, l.in, Contiguous::kInner},
              y,    l.out, Output::kAssign};
    case Form::kBackwardInput:  // dx = dy w
      return {rows, l.in, l.out,          {y, l.out, Contiguous::kInner}, {w, l.in, Contiguous::kOuter},
              x,    l.in, Output::kAssign};
    case Form::kBackwardWeight:  // dw += dy^T x
      return {l.out,
              l.in,
              rows,
              {y, l.out, Contiguous::kOuter},
              {x, l.in, Contiguous::kOuter},
              w,
              l.in,
              Output::kAccumulate};
  }
  return {};
}

// Takes of ctx.work, and gives back, what products on a GPU would.
void count_scratch(const Context& ctx, std::int64_t lanes) {
  if (ctx.modelled != Device::kCuda) return;
  const ArenaScope scope(*ctx.work);
  ctx.work->alloc({lanes, cuda::kMostGemmScratch}, DType::kU8);
}

void run_dense(const Context& ctx, const Linear& l) {
  record(ctx, l, WorkKind::kGemm);
  if (l.weight.device == Device::kMeta) return count_scratch(ctx, 1);
  const DType dtype = l.rows_in.dtype;
  const Product product = product_of(l, 0, 0, l.rows);
  if (l.weight.device == Device::kCuda) {
    cuda::run_product(ctx, dtype, product);
  } else {
    cpu::run_product(ctx.threads, dtype, cpu::gemm_engine(dtype), product);
  }
}

void run_grouped(const Context& ctx, std::span<const std::int64_t> offsets, const Linear& l) {
  record(ctx, l, WorkKind::kGroupedGemm);
  if (l.weight.device == Device::kMeta) return count_scratch(ctx, cuda::kGemmLanes);
  std::vector<Product> products;
  for (std::size_t g = 0; g + 1 < offsets.size(); ++g) {
    if (offsets[g] == offsets[g + 1]) continue;
    products.push_back(product_of(l, static_cast<std::int64_t>(g), offsets[g], offsets[g + 1]));
  }
  const DType dtype = l.rows_in.dtype;
  if (l.weight.device == Device::kCuda) {
    cuda::run_products(ctx, dtype, products);
  } else {
    cpu::run_products(ctx.threads, dtype, cpu::gemm_engine(dtype), products);
  }
}

std::int64_t checked_groups(std::span<const std::int64_t> offsets, std::int64_t rows) {
  ENSURE(!offsets.empty() && offsets.front() == 0 && offsets.back() == rows,
         "group offsets must start at 0 and end at {} rows", rows);
  for (std::size_t g = 0; g + 1 < offsets.size(); ++g) {
    ENSURE(offsets[g] <= offsets[g + 1], "group {} has a negative number of rows: {} to {}", g, offsets[g],
           offsets[g + 1]);
  }
  return static_cast<std::int64_t>(offsets.size()) - 1;
}

}  // namespace

void linear_forward(const Context& ctx, Tensor x_TI, Tensor w_OI, Tensor y_TO) {
  run_dense(ctx, checked(Form::kForward, x_TI, w_OI, y_TO, -1));
}

void linear_backward_input(const Context& ctx, Tensor dy_TO, Tensor w_OI, Tensor dx_TI) {
  run_dense(ctx, checked(Form::kBackwardInput, dx_TI, w_OI, dy_TO, -1));
}

void linear_backward_weight(const Context& ctx, Tensor dy_TO, Tensor x_TI, Tensor dw_OI) {
  run_dense(ctx, checked(Form::kBackwardWeight, x_TI, dw_OI, dy_TO, -1));
}

void grouped_linear_forward(const Context& ctx, std::span<const std::int64_t> offsets, Tensor x_RI,
                            Tensor w_eOI, Tensor y_RO) {
  const std::int64_t groups = checked_groups(offsets, x_RI.rows());
  run_grouped(ctx, offsets, checked(Form::kForward, x_RI, w_eOI, y_RO, groups));
}

void grouped_linear_backward_input(const Context& ctx, std::span<const std::int64_t> offsets, Tensor dy_RO,
                                   Tensor w_eOI, Tensor dx_RI) {
  const std::int64_t groups = checked_groups(offsets, dy_RO.rows());
  run_grouped(ctx, offsets, checked(Form::kBackwardInput, dx_RI, w_eOI, dy_RO, groups));
}

void grouped_linear_backward_weight(const Context& ctx, std::span<const std::int64_t> offsets, Tensor dy_RO,
                                    Tensor x_RI, Tensor dw_eOI) {
  const std::int64_t groups = checked_groups(offsets, x_RI.rows());
  run_grouped(ctx, offsets, checked(Form::kBackwardWeight, x_RI, dw_eOI, dy_RO, groups));
}

bool row_invariant_gemm(DType dtype) {
  return cpu::gemm_engine(dtype).row_invariant;
}
const char* gemm_backend(DType dtype) {
  return cpu::gemm_engine(dtype).name;
}

}  // namespace jevons
