// A small MoE layer, the same layer as a plain loop over tokens, and the balance losses as their formulas
// say.
#pragma once

#include <string>
#include <vector>

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

// The layer as a loop over tokens, given the routing.
Values reference(const ParamStore& store, const RouterOutput& routing, Tensor x, bool shared);

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

struct AuxLosses {
  double micro_batch = 0, sequence = 0, global = 0, z = 0;
  double total(const MoeConfig& moe) const {
    return moe.balance_loss * micro_batch + moe.sequence_balance_loss * sequence +
           moe.global_balance_loss * global + moe.z_loss * z;
  }
};

// As a mean over all rows, whose micro-batches have `micro_batch` rows each.
AuxLosses aux_losses(const Routing& r, const RouterRule& rule, std::int64_t micro_batch);

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
