// What files an export writes, and what is in each: a pure function of the model, so that every rank has the
// same.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "trainer/config/train_section.h"
#include "trainer/hf/family.h"
#include "trainer/io/safetensors.h"

namespace jevons {

struct ExportFile {
  std::string name;  // "model-00002-of-00003.safetensors"; "model.safetensors" if it is the only one
  std::vector<WeightPlace> weights;
  SafetensorsHeader header;  // an entry for each weight, in order
  std::int64_t bytes = 0;    // of tensors
};

// Tensors in the order of `places`, a new file before one that would go over `shard_bytes`; in a file those
// of wider elements come first.
std::vector<ExportFile> plan_files(const std::vector<WeightPlace>& places, Precision precision,
                                   std::int64_t shard_bytes);

// model.safetensors.index.json.
std::string format_index(const std::vector<ExportFile>& files);

}  // namespace jevons
