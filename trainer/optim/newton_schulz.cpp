#include "trainer/optim/newton_schulz.h"

#include <algorithm>
#include <vector>

#include "kernels/core/error.h"
#include "kernels/elementwise.h"
#include "kernels/gemm.h"

namespace jevons {
namespace {

struct Coefficients {
  double a, b, c;
};

std::vector<Coefficients> coefficients_of(NewtonSchulz iterations) {
  constexpr Coefficients kSteep{3.4445, -4.7750, 2.0315}, kExact{2, -1.5, 0.5};
  if (iterations == NewtonSchulz::kFive) return std::vector<Coefficients>(5, kSteep);
  std::vector<Coefficients> all(8, kSteep);
  all.insert(all.end(), 2, kExact);
  return all;
}

// A matrix and its products with itself from its narrower side, of k rows or columns.
class Iteration {
 public:
  Iteration(const Context& ctx, Tensor u)
      : ctx_(ctx),
        wide_(u.shape[0] <= u.shape[1]),
        side_(std::min(u.shape[0], u.shape[1])),
        x_(make(u.shape, ctx.compute)),
        y_(make(u.shape, u.dtype)),
        s_(make({side_, side_}, u.dtype)),
        squared_(make({side_, side_}, u.dtype)),
        factor_(make({side_, side_}, ctx.compute)) {
    const Tensor squares = make({1}, DType::kF64);
    fill_zero(ctx, squares);
    add_sum_of_squares(ctx, u, squares);
    normalise(ctx, u, squares, 1e-7, x_);
  }

  // out = scale * the next X; X itself where `out` is x().
  void run(const Coefficients& c, double scale, Tensor out) const {
    product_with_itself();
    Tensor s = s_;
    if (s.dtype != factor_.dtype) cast(ctx_, s, factor_), s = factor_;
    linear_forward(ctx_, s, s, squared_);  // S is symmetric
    add_weighted(ctx_, c.b, s_, c.c, squared_, factor_);
    if (wide_) {
      linear_backward_input(ctx_, factor_, x_, y_);
    } else {
      linear_forward(ctx_, x_, factor_, y_);
    }
    add_weighted(ctx_, scale * c.a, x_, scale, y_, out);
  }
  Tensor x() const { return x_; }

 private:
  Tensor make(Shape shape, DType dtype) const { return ctx_.work->alloc(shape, dtype); }
  void product_with_itself() const {
    if (wide_) return linear_forward(ctx_, x_, x_, s_);
    fill_zero(ctx_, s_);
    linear_backward_weight(ctx_, x_, x_, s_);
  }

  const Context& ctx_;
  bool wide_;
  std::int64_t side_;
  Tensor x_, y_;                 // (n, m)
  Tensor s_, squared_, factor_;  // (k, k)
};

}  // namespace

void orthogonalise(const Context& ctx, NewtonSchulz iterations, double scale, Tensor u) {
  ENSURE(u.shape.ndim() == 2 && u.dtype == accumulator_of(ctx.compute),
         "orthogonalise: {} with products of {}", u.to_string(), name_of(ctx.compute));
  const ArenaScope scope(*ctx.work);
  const std::vector<Coefficients> coefficients = coefficients_of(iterations);
  const Iteration iteration(ctx, u);
  for (std::size_t i = 0; i + 1 < coefficients.size(); ++i) iteration.run(coefficients[i], 1, iteration.x());
  iteration.run(coefficients.back(), scale, u);
}

}  // namespace jevons
