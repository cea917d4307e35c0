// What tests of the router share.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "kernels/moe/routing.h"
#include "tests/support/kernel_test.h"

namespace jevons::test {

using Row = std::vector<double>;

inline constexpr double kInf = std::numeric_limits<double>::infinity();

inline Row softmax(const Row& z) {
  const double max = *std::max_element(z.begin(), z.end());
  Row p;
  for (double x : z) p.push_back(std::exp(x - max));
  const double sum = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& x : p) x /= sum;
  return p;
}

inline RouterOutput make_output(KernelBench& bench, const RouterRule& rule, std::int64_t rows, DType dtype) {
  return {bench.poisoned({rows, rule.num_experts}, dtype), bench.poisoned({rows, rule.top_k}, DType::kI32),
          bench.poisoned({rows, rule.top_k}, dtype)};
}

inline Row row_of(const Tensor& t, std::int64_t row) {
  return to_doubles(t.slice(row, row + 1));
}

}  // namespace jevons::test
