#include "kernels/gemm.h"

#include <vector>

#include "kernels/core/error.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cuda/gemm.h"
#include "kernels/op_call.h"

namespace jevons {
namespace {

enum class Form { kForward, kBackwardInput, kBackwardWeight };

// The three tensors of a linear layer in the roles of one form: `rows_out` is y or dy, `rows_in` is x or dx,
// `weight` is w or dw with an optional leading dim of groups. The one that the form writes has no scale.
struct Linear {
  Form form;
  const char* op;
  Factor rows_in, weight, rows_out;
  WorkKind kind = WorkKind::kGemm;
  std::int64_t groups = 1;

  std::int64_t rows() const { return rows_in.values.shape[0]; }
  std::int64_t in() const { return rows_in.values.shape[1]; }
  std::int64_t out() const { return rows_out.values.shape[1]; }
};

void read(OpCall& call, const char* name, const Factor& factor, const Shape& shape) {
  call.reads(name, factor.values, shape, factor.values.dtype);
  if (factor.scale.defined()) call.reads("scale", factor.scale, {1}, DType::kF32);
}

DType dtype_of_factor(const Factor& factor) {
  return factor_dtype(factor.values.dtype, factor.scale.defined());
}

void check_and_record(const Context& ctx, const Linear& l) {
  for (const Tensor& t : {l.rows_in.values, l.rows_out.values})
    ENSURE(t.shape.ndim() == 2, "{}: rows are {}, wanted a matrix", l.op, t.to_string());
  const Shape x{l.rows(), l.in()}, y{l.rows(), l.out()};
  const Shape w =
      l.kind == WorkKind::kGroupedGemm ? Shape{l.groups, l.out(), l.in()} : Shape{l.out(), l.in()};
  const bool forward = l.form == Form::kForward, weight = l.form == Form::kBackwardWeight;
  const Factor& result = forward ? l.rows_out : weight ? l.weight : l.rows_in;
  const Factor& first = forward ? l.rows_in : l.rows_out;
  const Factor& second = weight ? l.rows_in : l.weight;
  const DType common = common_dtype(dtype_of_factor(first), dtype_of_factor(second));
  const DType sums = accumulator_of(common), written = result.values.dtype;
  ENSURE(written == sums || (!weight && sums == DType::kF32 && written == DType::kBF16),
         "{} of {} and {} cannot give {}", l.op, first.values.to_string(), second.values.to_string(),
         result.values.to_string());
  OpCall call(l.op, l.weight.values.device);
  if (forward) {
    read(call, "x", l.rows_in, x);
    read(call, "w", l.weight, w);
    call.writes("y", l.rows_out.values, y, written);
  } else if (weight) {
    read(call, "dy", l.rows_out, y);
    read(call, "x", l.rows_in, x);
    call.updates("dw", l.weight.values, w, written);
  } else {
    read(call, "dy", l.rows_out, y);
    read(call, "w", l.weight, w);
    call.writes("dx", l.rows_in.values, x, written);
  }
  const double flops =
      2.0 * static_cast<double>(l.rows()) * static_cast<double>(l.in()) * static_cast<double>(l.out());
  call.record(ctx, l.kind, common,
              {{{"rows", l.rows()}, {"in", l.in()}, {"out", l.out()}, {"groups", l.groups}}}, flops);
}

// A matrix of `factor` from `element` on.
Operand operand_of(const Factor& factor, std::int64_t element, std::int64_t ld, Contiguous contiguous) {
  const float* scale = factor.scale.defined() ? factor.scale.ptr<const float>() : nullptr;
  const Operand whole{factor.values.data, ld, factor.values.dtype, contiguous, scale};
  return whole.from(contiguous == Contiguous::kInner ? 0 : element,
                    contiguous == Contiguous::kInner ? element : 0);
}

// Rows [begin, end) with the weight matrix of `group`.
Product product_of(const Linear& l, std::int64_t group, std::int64_t begin, std::int64_t end) {
  const std::int64_t rows = end - begin, in = l.in(), out = l.out();
  const auto x = [&](Contiguous c) { return operand_of(l.rows_in, begin * in, in, c); };
  const auto y = [&](Contiguous c) { return operand_of(l.rows_out, begin * out, out, c); };
  const auto w = [&](Contiguous c) { return operand_of(l.weight, group * out * in, in, c); };
  constexpr auto kInner = Contiguous::kInner, kOuter = Contiguous::kOuter;
  // C lies as its rows do.
  const auto assign = [](std::int64_t m, std::int64_t n, std::int64_t k, const Operand& a, const Operand& b,
                         const Operand& c) {
    return Product{m, n, k, a, b, const_cast<void*>(c.data), c.ld, c.dtype, Output::kAssign};
  };
  if (l.form == Form::kForward) return assign(rows, out, in, x(kInner), w(kInner), y(kInner));  // y = x w^T
  if (l.form == Form::kBackwardInput)
    return assign(rows, in, out, y(kInner), w(kOuter), x(kInner));      // dx = dy w
  Product dw = assign(out, in, rows, y(kOuter), x(kOuter), w(kInner));  // dw += dy^T x
  dw.output = Output::kAccumulate;
  return dw;
}

// Takes of ctx.work, and gives back, what products on a GPU would.
void count_scratch(const Context& ctx, std::int64_t lanes) {
  if (ctx.modelled != Device::kCuda) return;
  const ArenaScope scope(*ctx.work);
  ctx.work->alloc({lanes, cuda::kMostGemmScratch}, DType::kU8);
}

void run_dense(const Context& ctx, const Linear& l) {
  check_and_record(ctx, l);
  const Device device = l.weight.values.device;
  if (device == Device::kMeta) return count_scratch(ctx, 1);
  const Product product = product_of(l, 0, 0, l.rows());
  if (device == Device::kCuda) return cuda::run_product(ctx, product);
  cpu::run_product(ctx.threads, cpu::gemm_engine(common_dtype(product)), product);
}

void run_grouped(const Context& ctx, std::span<const std::int64_t> offsets, const Linear& l) {
  check_and_record(ctx, l);
  const Device device = l.weight.values.device;
  if (device == Device::kMeta) return count_scratch(ctx, cuda::kGemmLanes);
  std::vector<Product> products;
  for (std::size_t g = 0; g + 1 < offsets.size(); ++g) {
    if (offsets[g] == offsets[g + 1]) continue;
    products.push_back(product_of(l, static_cast<std::int64_t>(g), offsets[g], offsets[g + 1]));
  }
  if (products.empty()) return;
  if (device == Device::kCuda) return cuda::run_products(ctx, products);
  cpu::run_products(ctx.threads, cpu::gemm_engine(common_dtype(products.front())), products);
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

void linear_forward(const Context& ctx, Factor x_TI, Factor w_OI, Tensor y_TO) {
  run_dense(ctx, {Form::kForward, "linear_forward", x_TI, w_OI, y_TO});
}

void linear_backward_input(const Context& ctx, Factor dy_TO, Factor w_OI, Tensor dx_TI) {
  run_dense(ctx, {Form::kBackwardInput, "linear_backward_input", dx_TI, w_OI, dy_TO});
}

void linear_backward_weight(const Context& ctx, Factor dy_TO, Factor x_TI, Tensor dw_OI) {
  run_dense(ctx, {Form::kBackwardWeight, "linear_backward_weight", x_TI, dw_OI, dy_TO});
}

void grouped_linear_forward(const Context& ctx, std::span<const std::int64_t> offsets, Factor x_RI,
                            Factor w_eOI, Tensor y_RO) {
  const std::int64_t groups = checked_groups(offsets, x_RI.values.rows());
  run_grouped(ctx, offsets,
              {Form::kForward, "grouped_linear_forward", x_RI, w_eOI, y_RO, WorkKind::kGroupedGemm, groups});
}

void grouped_linear_backward_input(const Context& ctx, std::span<const std::int64_t> offsets, Factor dy_RO,
                                   Factor w_eOI, Tensor dx_RI) {
  const std::int64_t groups = checked_groups(offsets, dy_RO.values.rows());
  run_grouped(ctx, offsets,
              {Form::kBackwardInput, "grouped_linear_backward_input", dx_RI, w_eOI, dy_RO,
               WorkKind::kGroupedGemm, groups});
}

void grouped_linear_backward_weight(const Context& ctx, std::span<const std::int64_t> offsets, Factor dy_RO,
                                    Factor x_RI, Tensor dw_eOI) {
  const std::int64_t groups = checked_groups(offsets, x_RI.values.rows());
  run_grouped(ctx, offsets,
              {Form::kBackwardWeight, "grouped_linear_backward_weight", x_RI, dw_eOI, dy_RO,
               WorkKind::kGroupedGemm, groups});
}

GemmBackend gemm_backend(DType dtype) {
  const cpu::GemmEngine& engine = cpu::gemm_engine(dtype);
  return {engine.name, engine.row_invariant};
}

}  // namespace jevons
