// A small MoE layer, the same layer as a plain loop over tokens, and the balance losses as their formulas
// say.
#pragma once

#include <fmt/core.h>

#include <cmath>
#include <string>
#include <vector>

#include "kernels/core/error.h"
#include "tests/support/compare.h"
#include "tests/support/test_bed.h"
#include "trainer/model/moe.h"

namespace jevons::test {

using Values = std::vector<double>;

inline constexpr std::int64_t kHidden = 6, kSeq = 4;

inline ModelConfig small(const RouterRule& rule, std::int64_t shared = 1) {
  ModelConfig config;
  config.num_layers = 2, config.hidden_size = kHidden, config.seq_len = kSeq, config.init_std = 0.5;
  config.moe.router = rule;
  config.moe.expert_hidden_size = 6;
  config.moe.num_shared_experts = shared;
  return config;
}

inline const RouterRule kPlain{.num_experts = 4, .top_k = 2};

inline Tensor weight_of(const ParamStore& store, const std::string& name) {
  for (ParamId id = 0; id < store.params().size(); ++id) {
    if (store.params()[id].spec.name == name) return store.weight(id);
  }
  fail(ExitCode::kFailure, "no weight {}", name);
}

// y += scale * SwiGLU network `name` of one row.
inline void add_swiglu(const ParamStore& store, const std::string& name, double scale, const double* x,
                       double* y) {
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

// The layer as a loop over tokens, given the routing.
inline Values reference(const ParamStore& store, const RouterOutput& routing, Tensor x, bool shared) {
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

// The elements of all ranks, which have as many each.
template <class T>
std::vector<T> gathered(Communicator& world, std::vector<T> mine) {
  std::vector<T> all(mine.size() * static_cast<std::size_t>(world.size()));
  const auto view = [](std::vector<T>& values) {
    return Tensor{values.data(), {std::ssize(values)}, dtype_of<T>::value, Device::kCpu};
  };
  world.all_gather(view(mine), view(all)).wait();
  return all;
}

// The routing of all ranks' rows in order, for the losses' formulas.
struct Routing {
  Values logits, scores;
  std::vector<std::int64_t> indices;
  void append(const Router::Saved& saved) {
    for (double v : to_vector(saved.logits)) logits.push_back(v);
    for (double v : to_vector(saved.out.scores)) scores.push_back(v);
    for (std::int32_t i : saved.out.indices.span<std::int32_t>()) indices.push_back(i);
  }
};

// E sum_i (share of slots)_i (mean normalised score)_i over rows [begin, end); the load may come from other
// rows.
inline double balance_of(const Routing& r, const RouterRule& rule, std::int64_t begin, std::int64_t end,
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

struct AuxLosses {
  double micro_batch = 0, sequence = 0, global = 0, z = 0;
  double total(const MoeConfig& moe) const {
    return moe.balance_loss * micro_batch + moe.sequence_balance_loss * sequence +
           moe.global_balance_loss * global + moe.z_loss * z;
  }
};

// As a mean over all rows, whose micro-batches have `micro_batch` rows each.
inline AuxLosses aux_losses(const Routing& r, const RouterRule& rule, std::int64_t micro_batch) {
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

inline LossScales scales_of(std::int64_t rows, std::int64_t micro_batch) {
  return {.token = 1,
          .micro_batch = double(micro_batch) / double(rows),
          .sequence = double(kSeq) / double(rows),
          .position = 1 / double(rows)};
}

inline ModelConfig with_losses(ModelConfig config) {
  config.moe.balance_loss = 0.3, config.moe.sequence_balance_loss = 0.2;
  config.moe.global_balance_loss = 0.4, config.moe.z_loss = 0.05;
  return config;
}

}  // namespace jevons::test
