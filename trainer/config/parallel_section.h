// parallel:
#pragma once

#include <cstdint>
#include <optional>

#include "parallel/mesh.h"
#include "trainer/model/model_config.h"

namespace jevons {

class Bridge;
class Rules;

struct ParallelConfig {
  Layout layout;       // dp = 0 until resolved: what is left of the workers
  int zero_stage = 1;  // 0: optimizer state on every rank; 1: sharded over the ranks that sum a gradient
  std::int64_t bucket_mib = 64;  // ParamStore's buckets
  bool operator==(const ParallelConfig&) const = default;
};

void carry(Bridge section, ParallelConfig& parallel);
// dp = what the other axes leave of `world` workers, if they divide it.
void resolve_defaults(ParallelConfig& parallel, int world);
// That the layout, resolved as far as it can be, divides the model and has as many workers as there are, if
// that is known.
void check(const ParallelConfig& parallel, const ModelConfig& model, std::optional<int> world, Rules& rules);

}  // namespace jevons
