// The weights of a model, wherever they come from: a checkpoint, a run, or a Hugging Face folder.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "trainer/checkpoint/checkpoint.h"
#include "trainer/io/tensor_source.h"

namespace jevons {

struct ModelSource {
  std::string path;  // of the checkpoint or the folder
  TrainState state;  // its passport has "config"; of a folder step 0 and nothing else
  std::unique_ptr<TensorSource> weights;
  std::string carried;                 // the directory with the files to take along (carried.h), or ""
  std::vector<std::string> not_taken;  // keys of config.json whose meaning is not known

  // Resolved YAML. Throws Error(kData) if the passport has none.
  const std::string& config() const;
};

// A directory with config.json that is neither a checkpoint nor a run.
bool is_hf_folder(const std::string& path);

// Whether a folder's contents are compared where they must agree, which takes a while: by one worker.
enum class SourceCheck : std::uint8_t { kHeaders, kContents };

// `path` as find_checkpoint takes it, or a Hugging Face folder. Throws Error(kData) naming file, key or
// tensor. Not collective.
ModelSource open_model(const std::string& path, SourceCheck check);

}  // namespace jevons
