// One gradient check for every layer: central differences in f64 of a scalar against the hand-written
// backward, with respect to the inputs and to every weight of a ParamStore. Gradients are filled with a
// nonzero value beforehand, so that a backward that assigns weight gradients instead of adding to them is
// found; both arenas are poisoned with NaN.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/test_bed.h"

namespace jevons::test {

struct GradProblem {
  std::vector<Tensor>
      inputs;  // f64, checked beside the weights; copied before use when a layer works in place
  // Forward pass on fresh arenas down to one number. Called many times with changed inputs and weights.
  std::function<double(const Context&)> loss;
  // Called once, right after loss(), on the same arenas. Adds to the store's gradients and returns the
  // gradients of `inputs`, in their order.
  std::function<std::vector<Tensor>(const Context&)> backward;
};

struct GradOptions {
  double step = 1e-5;        // relative to max(1, |value|)
  double tolerance = 1e-7;   // of |difference| / max(1, |gradient|)
  std::int64_t probes = 64;  // elements tried per tensor, spread evenly; all if it has fewer
};

namespace detail {

inline double prefill(std::int64_t i) {
  return 0.5 + 0.001 * static_cast<double>(i % 100);
}

inline double loss_on_fresh_arenas(TestBed& bed, const GradProblem& problem) {
  reset_and_poison(bed.stash);
  reset_and_poison(bed.work);
  return problem.loss(bed.ctx);
}

// Compares gradient[i] with the central difference over values[i], for a spread of elements i.
inline void check_elements(TestBed& bed, const GradProblem& problem, const GradOptions& options,
                           const std::string& name, Tensor values, const std::vector<double>& gradient) {
  double worst = 0, worst_numeric = 0;
  std::int64_t worst_i = 0;
  const std::int64_t n = values.numel(), probes = std::min(n, options.probes);
  for (std::int64_t probe = 0; probe < probes; ++probe) {
    const std::int64_t i = probe * n / probes;
    double& value = values.ptr<double>()[i];
    const double before = value, step = options.step * std::max(1.0, std::abs(value));
    value = before + step;
    const double up = loss_on_fresh_arenas(bed, problem);
    value = before - step;
    const double down = loss_on_fresh_arenas(bed, problem);
    value = before;
    const double numeric = (up - down) / (2 * step), exact = gradient[static_cast<std::size_t>(i)];
    double error = std::abs(numeric - exact) / std::max(1.0, std::abs(exact));
    if (!std::isfinite(error)) error = std::numeric_limits<double>::infinity();
    if (error > worst) worst = error, worst_i = i, worst_numeric = numeric;
  }
  INFO(name << "[" << worst_i << "]: backward " << gradient[static_cast<std::size_t>(worst_i)]
            << ", difference " << worst_numeric);
  CHECK(worst <= options.tolerance);
}

}  // namespace detail

inline void check_gradients(TestBed& bed, const GradProblem& problem, const GradOptions& options = {}) {
  ParamStore& store = bed.store;
  const std::size_t num_params = store.params().size();
  for (ParamId id = 0; id < num_params; ++id) {
    const std::span<double> grad = store.grad(id).span<double>();
    for (std::size_t i = 0; i < grad.size(); ++i) grad[i] = detail::prefill(static_cast<std::int64_t>(i));
  }
  REQUIRE(std::isfinite(detail::loss_on_fresh_arenas(bed, problem)));
  const std::vector<Tensor> input_grads = problem.backward(bed.ctx);
  REQUIRE(input_grads.size() == problem.inputs.size());

  std::vector<std::vector<double>> gradients;
  for (const Tensor& g : input_grads) gradients.emplace_back(g.ptr<double>(), g.ptr<double>() + g.numel());
  for (ParamId id = 0; id < num_params; ++id) {
    const std::span<double> grad = store.grad(id).span<double>();
    std::vector<double>& kept = gradients.emplace_back(grad.begin(), grad.end());
    for (std::size_t i = 0; i < kept.size(); ++i) kept[i] -= detail::prefill(static_cast<std::int64_t>(i));
    if (const std::optional<ParamId> owner = store.params()[id].owner) {
      std::vector<double>& sum = gradients[problem.inputs.size() + *owner];
      std::ranges::transform(sum, kept, sum.begin(), std::plus{});
    }
  }
  for (std::size_t i = 0; i < problem.inputs.size(); ++i) {
    REQUIRE(input_grads[i].shape == problem.inputs[i].shape);
    detail::check_elements(bed, problem, options, "input " + std::to_string(i), problem.inputs[i],
                           gradients[i]);
  }
  for (ParamId id = 0; id < num_params; ++id) {
    if (store.params()[id].owner) continue;
    detail::check_elements(bed, problem, options, store.params()[id].spec.name, store.weight(id),
                           gradients[problem.inputs.size() + id]);
  }
}

// A random projection of y: the scalar that a layer's gradients are checked on. Its gradient is
// projection_of(y).
inline Tensor projection_of(TestBed& bed, Shape shape) {
  return bed.random(shape, "projection");
}

inline double dot(Tensor a, Tensor b) {
  double sum = 0;
  for (std::int64_t i = 0; i < a.numel(); ++i) sum += element(a, i) * element(b, i);
  return sum;
}

// The check for layers: forward(ctx, x) -> y of shape y_shape, backward(ctx, dy) -> dx. Either may write over
// its argument.
template <class Forward, class Backward>
void check_layer(TestBed& bed, Tensor x, Shape y_shape, Forward forward, Backward backward,
                 const GradOptions& options = {}) {
  const Tensor x_copy = bed.tensor(x.shape, x.dtype), dy = projection_of(bed, y_shape);
  const Tensor dy_copy = projection_of(bed, y_shape);
  GradProblem problem;
  problem.inputs = {x};
  problem.loss = [&](const Context& ctx) {
    std::memcpy(x_copy.data, x.data, x.bytes());
    const Tensor y = forward(ctx, x_copy);
    REQUIRE(y.shape == y_shape);
    return dot(y, dy);
  };
  problem.backward = [&](const Context& ctx) { return std::vector<Tensor>{backward(ctx, dy_copy)}; };
  check_gradients(bed, problem, options);
}

}  // namespace jevons::test
