// The branches that a block may have, and which one a layer of a model has.
#pragma once

#include <variant>

#include "trainer/model/attention.h"
#include "trainer/model/ffn.h"
#include "trainer/model/mla.h"
#include "trainer/model/moe.h"

namespace jevons {

using AttentionBranch = std::variant<Attention, LatentAttention>;
using FfnBranch = std::variant<DenseFfn, Moe>;

// Declare layers.N.attn.* and layers.N.ffn.* or layers.N.moe.*. `rope` must outlive the branch.
AttentionBranch make_attention(ParamStore& store, const ModelConfig& config, std::int64_t layer,
                               const RopeTable& rope);
FfnBranch make_ffn(ParamStore& store, const ModelConfig& config, std::int64_t layer);

}  // namespace jevons
