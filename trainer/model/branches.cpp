#include "trainer/model/branches.h"

#include <fmt/core.h>

namespace jevons {

AttentionBranch make_attention(ParamStore& store, const ModelConfig& config, std::int64_t layer,
                               const RopeTable& rope) {
  return Attention(store, config, fmt::format("layers.{}.attn", layer), rope);
}

FfnBranch make_ffn(ParamStore& store, const ModelConfig& config, std::int64_t layer) {
  if (config.is_moe_layer(layer)) return Moe(store, config, layer);
  return DenseFfn(store, config, fmt::format("layers.{}.ffn", layer), config.ffn_hidden_size);
}

}  // namespace jevons
