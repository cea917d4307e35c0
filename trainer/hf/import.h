// A Hugging Face folder as a checkpoint without optimizer state: fp32 weights, step 0.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "parallel/communicator.h"

namespace jevons {

struct Imported {
  std::string origin;  // "a Hugging Face folder, llama"
  std::int64_t tensors = 0, parameters = 0;
  std::vector<std::string> not_taken;  // keys of config.json whose meaning is not known
};

// `target` becomes the checkpoint, with model.yaml for configurations to include, and huggingface/
// (carried.h). Each rank reads and writes its share of the tensors, one at a time. Collective; fails on all
// ranks together, and leaves nothing then.
Imported import_folder(Communicator& world, const std::string& folder, const std::string& target);

}  // namespace jevons
