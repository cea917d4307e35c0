// config.json of DeepSeek-V2 and V3: latent attention, their routers, shared experts.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "trainer/hf/family.h"
#include "trainer/hf/key_reader.h"
#include "trainer/model/model_config.h"

namespace jevons {

// Attention, and the layers' experts; sizes and positions are read before. Throws Error(kData) for what is
// not computed here.
void read_deepseek(KeyReader& keys, Family family, ModelConfig& model);

// Whether the pairs of rotary rows in the files are halves (rotary_rows.h).
bool has_rotary_halves(KeyReader& keys, Family family);

// The options of `model` that the family cannot express: each with the reason, "option: reason".
std::vector<std::string> deepseek_obstacles(const ModelConfig& model, Family family);

void write_deepseek(const ModelConfig& model, Family family, nlohmann::ordered_json& config);

}  // namespace jevons
