#include "trainer/model/model_counts.h"

#include <cmath>
#include <map>

#include "parallel/mesh.h"
#include "parallel/meta/meta_communicator.h"
#include "parallel/param_store.h"
#include "trainer/model/model.h"

namespace jevons {

ModelCounts count_model(const ModelConfig& config) {
  MetaCommunicator world(0, 1);
  Mesh mesh(world, {});
  ParamStore store(mesh, Device::kMeta, DType::kF32);
  const Model model(store, config);
  ModelCounts counts;
  // Whole numbers as far as can be: weights by the share of tokens that use them.
  std::map<double, std::int64_t> used, multiplied;
  for (const Param& param : store.params()) {
    const ParamSpec& spec = param.spec;
    counts.total += spec.shape.numel();
    used[spec.share_of_tokens] += spec.shape.numel();
    if (spec.role == ParamRole::kMatrix || spec.role == ParamRole::kHead)
      multiplied[spec.share_of_tokens] += spec.shape.numel();
  }
  for (const StateTensor& state : model.state()) {
    counts.total += state.value.numel();
    used[1] += state.value.numel();
  }
  for (const auto& [share, numel] : used) counts.active += std::llround(share * static_cast<double>(numel));
  for (const auto& [share, numel] : multiplied)
    counts.matmul += std::llround(share * static_cast<double>(numel));
  counts.flops_per_token = 6 * static_cast<double>(counts.matmul) + model.attention_flops_per_token();
  return counts;
}

}  // namespace jevons
