#include "tests/model/moe_reference.h"

#include <fmt/core.h>

#include <cmath>

#include "kernels/core/error.h"

namespace jevons::test {
namespace {

Tensor weight_of(const ParamStore& store, const std::string& name) {
  for (ParamId id = 0; id < store.params().size(); ++id) {
    if (store.params()[id].spec.name == name) return store.weight(id);
  }
  fail(ExitCode::kFailure, "no weight {}", name);
}

// y += scale * SwiGLU network `name` of one row.
void add_swiglu(const ParamStore& store, const std::string& name, double scale, const double* x, double* y) {
  const Tensor gate = weight_of(store, name + ".gate"), up = weight_of(store, name + ".up"),
               down = weight_of(store, name + ".down");
  const auto product = [&](Tensor w, std::int64_t row) {
    double sum = 0;
    for (std::int64_t d = 0; d < kHidden; ++d) sum += element(w, row * kHidden + d) * x[d];
    return sum;
  };
  const std::int64_t hidden = gate.rows();
  for (std::int64_t f = 0; f < hidden; ++f) {
    const double g = product(gate, f), h = scale * g / (1 + std::exp(-g)) * product(up, f);
    for (std::int64_t d = 0; d < kHidden; ++d) y[d] += element(down, d * hidden + f) * h;
  }
}

// E sum_i (share of slots)_i (mean normalised score)_i over rows [begin, end); the load may come from other
// rows.
double balance_of(const Routing& r, const RouterRule& rule, std::int64_t begin, std::int64_t end,
                  std::int64_t load_begin, std::int64_t load_end) {
  const std::int64_t experts = rule.num_experts;
  double loss = 0;
  for (std::int64_t i = 0; i < experts; ++i) {
    double count = 0, mean = 0;
    for (std::int64_t s = load_begin * rule.top_k; s < load_end * rule.top_k; ++s) {
      count += r.indices[static_cast<std::size_t>(s)] == i ? 1 : 0;
    }
    for (std::int64_t t = begin; t < end; ++t) {
      double sum = 0;
      for (std::int64_t j = 0; j < experts; ++j) sum += r.scores[static_cast<std::size_t>(t * experts + j)];
      mean += r.scores[static_cast<std::size_t>(t * experts + i)] / sum / double(end - begin);
    }
    loss += double(experts) * count / double((load_end - load_begin) * rule.top_k) * mean;
  }
  return loss;
}

}  // namespace

Values reference(const ParamStore& store, const RouterOutput& routing, Tensor x, bool shared) {
  Values y(static_cast<std::size_t>(x.numel()));
  const std::int64_t top_k = routing.indices.cols();
  for (std::int64_t t = 0; t < x.rows(); ++t) {
    const double* in = x.ptr<double>() + t * kHidden;
    double* out = y.data() + t * kHidden;
    for (std::int64_t k = 0; k < top_k; ++k) {
      const auto expert = routing.indices.ptr<std::int32_t>()[t * top_k + k];
      add_swiglu(store, fmt::format("layers.1.moe.experts.{}", expert),
                 element(routing.weights, t * top_k + k), in, out);
    }
    if (shared) add_swiglu(store, "layers.1.moe.shared", 1, in, out);
  }
  return y;
}

AuxLosses aux_losses(const Routing& r, const RouterRule& rule, std::int64_t micro_batch) {
  const std::int64_t rows = std::ssize(r.scores) / rule.num_experts;
  AuxLosses out;
  for (std::int64_t b = 0; b < rows; b += micro_batch) {
    const double share = double(micro_batch) / double(rows);
    out.micro_batch += share * balance_of(r, rule, b, b + micro_batch, b, b + micro_batch);
    out.global += share * balance_of(r, rule, b, b + micro_batch, 0, rows);
  }
  for (std::int64_t s = 0; s < rows; s += kSeq) {
    out.sequence += double(kSeq) / double(rows) * balance_of(r, rule, s, s + kSeq, s, s + kSeq);
  }
  for (std::int64_t t = 0; t < rows; ++t) {
    double sum = 0;
    for (std::int64_t i = 0; i < rule.num_experts; ++i) {
      sum += std::exp(r.logits[static_cast<std::size_t>(t * rule.num_experts + i)]);
    }
    out.z += std::log(sum) * std::log(sum) / double(rows);
  }
  return out;
}

}  // namespace jevons::test
