#include "trainer/model/model_counts.h"

#include <cmath>
#include <map>

#include "parallel/mesh.h"
#include "parallel/meta/meta_communicator.h"
#include "parallel/param_store.h"
#include "trainer/model/model.h"

namespace jevons {
namespace {

// Whole numbers as far as can be: weights by the share of tokens that use them.
struct Tally {
  std::int64_t total = 0;
  std::map<double, std::int64_t> used, multiplied;

  void add(const ParamSpec& spec) {
    total += spec.shape.numel();
    used[spec.share_of_tokens] += spec.shape.numel();
    if (spec.role == ParamRole::kMatrix || spec.role == ParamRole::kHead)
      multiplied[spec.share_of_tokens] += spec.shape.numel();
  }
  void add(const StateTensor& state) {
    total += state.value.numel();
    used[1] += state.value.numel();
  }
  PartCounts counts(double attention_flops) const {
    PartCounts counts{.total = total};
    for (const auto& [share, numel] : used) counts.active += std::llround(share * static_cast<double>(numel));
    for (const auto& [share, numel] : multiplied)
      counts.matmul += std::llround(share * static_cast<double>(numel));
    counts.flops_per_token = 6 * static_cast<double>(counts.matmul) + attention_flops;
    return counts;
  }
};

}  // namespace

double stage_flops_per_token(const ModelConfig& config, StageRange range) {
  range.embedding = false;
  MetaCommunicator world(0, 1);
  Mesh mesh(world, {});
  ParamStore store(mesh, Device::kMeta, DType::kF32);
  const Stage stage(store, config, range);
  Tally tally;
  for (const Param& param : store.params()) tally.add(param.spec);  // a copy that a tied head multiplies too
  if (range.head) tally.multiplied[1] += config.mtp.depth * config.vocab_size * config.hidden_size;
  return tally.counts(stage.attention_flops_per_token() + stage.mtp_attention_flops_per_token())
      .flops_per_token;
}

ModelCounts count_model(const ModelConfig& config) {
  MetaCommunicator world(0, 1);
  Mesh mesh(world, {});
  ParamStore store(mesh, Device::kMeta, DType::kF32);
  const Model model(store, config);
  Tally own, mtp;
  for (const Param& param : store.params()) {
    if (param.spec.tie == Tie::kCopy) continue;
    (model.is_mtp_unit(param.unit) ? mtp : own).add(param.spec);
  }
  for (const StateTensor& state : model.state()) (state.layer < config.num_layers ? own : mtp).add(state);
  mtp.multiplied[1] += config.mtp.depth * config.vocab_size * config.hidden_size;
  return {own.counts(model.attention_flops_per_token()), mtp.counts(model.mtp_attention_flops_per_token()),
          model.cache_columns()};
}

}  // namespace jevons
