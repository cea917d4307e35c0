// Comparison of what a rank holds with what one worker computed. Failures are thrown, not CHECKed: the test
// framework's assertions are not for threads.
#pragma once

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "kernels/core/error.h"
#include "parallel/param_store.h"
#include "tests/support/test_bed.h"

namespace jevons::test {

// Elements of every weight or gradient, by name.
using NamedValues = std::map<std::string, std::vector<double>>;

inline std::vector<double> to_vector(Tensor t) {
  std::vector<double> values(static_cast<std::size_t>(t.numel()));
  for (std::int64_t i = 0; i < t.numel(); ++i) values[static_cast<std::size_t>(i)] = element(t, i);
  return values;
}

inline NamedValues weights_of(const ParamStore& store) {
  NamedValues values;
  for (ParamId id = 0; id < store.params().size(); ++id)
    values[store.params()[id].spec.name] = to_vector(store.weight(id));
  return values;
}

// Those of copies are added to their owners'.
inline NamedValues gradients_of(const ParamStore& store) {
  NamedValues values;
  for (ParamId id = 0; id < store.params().size(); ++id) {
    const Tensor grad = store.grad(id);
    std::vector<double>& sum = values[store.params()[id].spec.name];
    sum.resize(static_cast<std::size_t>(grad.numel()));
    for (std::int64_t i = 0; i < grad.numel(); ++i) sum[static_cast<std::size_t>(i)] += element(grad, i);
  }
  return values;
}

// Calls visit(local index, global index) for every element of a rank's part of a parameter.
template <class Visit>
void for_each_element(const Param& param, Visit visit) {
  const Shape global = param.spec.shape, local = param.local_shape;
  const std::int64_t cols = local.ndim() == 2 ? local[1] : 1,
                     global_cols = global.ndim() == 2 ? global[1] : 1;
  const std::int64_t first_row = param.spec.tp_dim == 0 ? param.tp_offset : 0;
  const std::int64_t first_col = param.spec.tp_dim == 1 ? param.tp_offset : 0;
  for (std::int64_t r = 0; r < local[0]; ++r) {
    for (std::int64_t c = 0; c < cols; ++c)
      visit(r * cols + c, (first_row + r) * global_cols + first_col + c);
  }
}

// Sum over all ranks of every gradient this rank holds a part of, in global shape: what gradient
// synchronisation must give.
inline NamedValues summed_gradients(ParamStore& store, Communicator& world) {
  NamedValues values;
  for (ParamId id = 0; id < store.params().size(); ++id) {
    const Param& param = store.params()[id];
    Buffer buffer(Device::kCpu, static_cast<std::size_t>(param.spec.shape.numel()) * sizeof(double));
    const Tensor global = buffer.view(0, {param.spec.shape.numel()}, DType::kF64);
    const Tensor local = store.grad(id);
    for_each_element(
        param, [&](std::int64_t from, std::int64_t to) { global.ptr<double>()[to] += element(local, from); });
    world.all_reduce(global).wait();
    std::vector<double>& sum = values[param.spec.name];  // with that of a copy
    sum.resize(static_cast<std::size_t>(global.numel()));
    for (std::int64_t i = 0; i < global.numel(); ++i) sum[static_cast<std::size_t>(i)] += element(global, i);
  }
  return values;
}

// |got - want| <= bound * largest |want| (or 1e-30, so that two tensors of zeros are equal).
inline void expect_close(const std::string& name, const std::vector<double>& got,
                         const std::vector<double>& want, double bound) {
  ENSURE(got.size() == want.size(), "{}: {} elements, expected {}", name, got.size(), want.size());
  double scale = 1e-30;
  for (double w : want) scale = std::max(scale, std::abs(w));
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double error = std::abs(got[i] - want[i]);
    ENSURE(error <= bound * scale, "{}[{}] = {}, expected {}; off by {:.3g} of the largest element", name, i,
           got[i], want[i], error / scale);
  }
}

inline void expect_close(const NamedValues& got, const NamedValues& want, double bound) {
  for (const auto& [name, values] : got) {
    ENSURE(want.contains(name), "unexpected parameter {}", name);
    expect_close(name, values, want.at(name), bound);
  }
}

}  // namespace jevons::test
