// Two checkpoints tensor by tensor, whatever the layouts that wrote them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "trainer/checkpoint/checkpoint.h"

namespace jevons {

struct TensorDifference {
  enum class Kind { kEqual, kValues, kShape, kOnlyInA, kOnlyInB };
  std::string name;
  Kind kind = Kind::kEqual;
  // Of kValues. The relative difference of two elements is |a - b| / max(|a|, |b|), at most 2. Infinite where
  // one is NaN and the other not.
  std::int64_t differing = 0, elements = 0;
  double max_absolute = 0, max_relative = 0;
  std::string shapes;  // of kShape: "f32 (2, 3), f32 (3, 3)"
};

// Every tensor of either, by name; checksums are checked on the way. Holds one tensor of each in memory.
// Throws Error(kData) for damage.
std::vector<TensorDifference> compare_tensors(const TensorSource& a, const TensorSource& b);

// A table of the tensors that differ, most different first, and a line of counts.
std::string describe_differences(std::vector<TensorDifference> differences);

}  // namespace jevons
