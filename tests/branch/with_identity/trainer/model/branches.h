// In place of the product's header in test_branch: one attention more.
#pragma once

#include <variant>

#include "tests/branch/identity_attention.h"
#include "trainer/model/attention.h"
#include "trainer/model/ffn.h"
#include "trainer/model/moe.h"

namespace jevons {

using AttentionBranch = std::variant<Attention, test::IdentityAttention>;
using FfnBranch = std::variant<DenseFfn, Moe>;

AttentionBranch make_attention(ParamStore& store, const ModelConfig& config, std::int64_t layer,
                               const RopeTable& rope);
FfnBranch make_ffn(ParamStore& store, const ModelConfig& config, std::int64_t layer);

}  // namespace jevons
