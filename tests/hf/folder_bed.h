// Hugging Face folders of a model with random weights, written by the test itself.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "trainer/hf/family.h"
#include "trainer/io/safetensors.h"

namespace jevons::test {

inline constexpr Family kFamilies[] = {Family::kLlama, Family::kMixtral,    Family::kQwen3Moe,
                                       Family::kOlmoe, Family::kDeepseekV2, Family::kDeepseekV3};

// The bytes of a tensor in a file.
struct FolderTensor {
  std::string dtype;  // "BF16"
  std::vector<std::int64_t> shape;
  std::string bytes;
};
using FolderTensors = std::map<std::string, FolderTensor>;

// A safetensors file of these, in order of their names.
std::string safetensors_of(const FolderTensors& tensors);
// Its header in `json` and `data` zero bytes.
std::string safetensors_with_header(const std::string& json, std::size_t data);

// fp32 numbers as they lie in a file.
std::string bytes_of(const std::vector<float>& values);

// config.json of the family for tiny_of.
std::string tiny_config(Family family, const std::string& more = "");
// The weights that a config.json wants, random, F32.
FolderTensors tensors_of(const std::string& config);
FolderTensors tiny_tensors(Family family);

// Writes config.json and the tensors, each i-th to file i % files, with an index if there are several.
void write_folder(const std::string& directory, const std::string& config, const FolderTensors& tensors,
                  std::size_t files = 1);
// A folder of the family as it should be.
void write_tiny(const std::string& directory, Family family, std::size_t files = 1);

}  // namespace jevons::test
