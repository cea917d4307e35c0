#include "trainer/model/branches.h"

#include <fmt/core.h>

#include <string>

namespace jevons {

AttentionBranch make_attention(ParamStore& store, const ModelConfig& config, std::int64_t layer,
                               const RopeTable& rope) {
  const std::string name = fmt::format("layers.{}.attn", layer);
  if (config.mla.enabled()) return LatentAttention(store, config, name, rope);
  return Attention(store, config, name, rope);
}

FfnBranch make_ffn(ParamStore& store, const ModelConfig& config, std::int64_t layer) {
  if (config.is_moe_layer(layer)) return Moe(store, config, layer);
  return DenseFfn(store, config, fmt::format("layers.{}.ffn", layer), config.ffn_hidden_size);
}

}  // namespace jevons
