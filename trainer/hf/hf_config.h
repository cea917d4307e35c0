// config.json of a Hugging Face folder as a ModelConfig, and back. Read in the styles of transformers 4
// (rope_theta, rope_scaling) and 5 (rope_parameters), written in that of 4, which both read. Keys that would
// make another model than the one that is computed here are refused by name.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "trainer/config/run_config.h"
#include "trainer/hf/family.h"
#include "trainer/model/model_config.h"

namespace jevons {

inline constexpr const char* kHfConfigFile = "config.json";

struct HfConfig {
  Family family = Family::kLlama;
  ModelConfig model;                                     // resolved; seq_len is max_position_embeddings
  Precision precision = Precision::kBF16;                // in which the weights are meant to be computed
  std::array<std::int64_t, 2> scale_block = {128, 128};  // of weights in F8_E4M3: rows, columns
  bool rotary_halves = false;          // of latent attention in the files; the model has neighbours
  std::vector<std::string> not_taken;  // keys whose meaning is not known
};

// Throws Error(kData) naming `path` and the key.
HfConfig parse_hf_config(std::string_view text, const std::string& path);

// A run's configuration with this model and else defaults; checked. Throws Error(kData) naming `path` for
// sizes that no model can have.
RunConfig run_of(const HfConfig& config, const std::string& path);

// The family that has such a model. Throws Error(kUsage) naming each option that none can express.
Family family_of(const ModelConfig& model);

// config.json. `original`: that of the folder from which the weights once came, or "": its token ids and
// context length are kept.
std::string format_hf_config(const ModelConfig& model, Precision precision, const std::string& original);

}  // namespace jevons
