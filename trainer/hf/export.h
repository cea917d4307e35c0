// A checkpoint as a Hugging Face folder that transformers 4 and 5 and vLLM load.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "parallel/communicator.h"
#include "trainer/config/train_section.h"

namespace jevons {

struct ExportRequest {
  std::string checkpoint;                    // as find_checkpoint takes it
  std::string folder;                        // to be made
  std::optional<Precision> precision = {};   // of the weights; nothing: as the model was trained
  std::int64_t shard_bytes = 5'000'000'000;  // of tensors in a file, but for a tensor that is larger
};

struct Exported {
  std::string checkpoint;  // that was read
  std::string model_type;
  Precision precision = Precision::kBF16;
  std::int64_t tensors = 0, bytes = 0;  // of tensors
  std::int64_t files = 0;               // with weights
  std::vector<std::string> notes;       // what a reader should know; rank 0's alone are whole
};

// Each rank writes whole files, one tensor at a time in memory; the bytes do not depend on their number, nor
// on the layout that wrote the checkpoint. Collective; fails on all ranks together, and leaves nothing then.
// Throws Error(kUsage) naming the options that no family can express, before anything is written.
Exported export_folder(Communicator& world, const ExportRequest& request);

}  // namespace jevons
