// What a checkpoint holds, as text for people.
#pragma once

#include <cstdint>
#include <string>

namespace jevons {

// State, passport, files, and a table of the tensors: shape, dtype, boxes, bytes. Reads the manifest only.
// Throws Error(kData) if `path` is no checkpoint.
std::string describe_checkpoint(const std::string& path);

struct CheckpointSize {
  std::int64_t tensors = 0, files = 0, boxes = 0;
  double bytes = 0;  // of all files, headers included
};
CheckpointSize size_of_checkpoint(const std::string& path);

}  // namespace jevons
