// Rotary positions in config.json: rope_theta and rope_scaling, or rope_parameters, which holds both.
#pragma once

#include <nlohmann/json.hpp>

#include "trainer/hf/key_reader.h"
#include "trainer/model/model_config.h"

namespace jevons {

// Into model.rope, all but its layout. `default_theta` is that of the family. Throws Error(kData) for what is
// not computed here.
void read_rope(KeyReader& keys, double default_theta, ModelConfig& model);

// rope_theta and rope_scaling.
void write_rope(const RopeConfig& rope, nlohmann::ordered_json& config);

}  // namespace jevons
