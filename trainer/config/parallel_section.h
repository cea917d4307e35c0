// parallel:
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "parallel/mesh.h"
#include "parallel/pipeline/schedule.h"
#include "trainer/model/model_config.h"

namespace jevons {

class Bridge;
class Rules;

// parallel.schedule and what goes with it: how the layers lie on the stages of a pipeline, and its order.
struct PipelineConfig {
  PipelineKind schedule = PipelineKind::k1F1B;
  int virtual_stages = 0;  // on each worker; 0: of_each_rank chooses
  bool pairs = false;
  std::string file;                        // a list of actions in place of the schedule's; empty: none
  std::vector<std::int64_t> stage_layers;  // of every stage; empty: by cost
  bool operator==(const PipelineConfig&) const = default;

  // Stages of each of `ranks` ranks: virtual_stages, or by the schedule.
  int of_each_rank(int ranks) const;
  PipelineOptions options(int ranks, std::int64_t micro_batches) const;
};

struct ParallelConfig {
  Layout layout;       // dp = 0 until resolved: what is left of the workers
  int zero_stage = 1;  // 0: optimizer state on every rank; 1: sharded over the ranks that sum a gradient
  std::int64_t bucket_mib = 64;  // ParamStore's buckets
  PipelineConfig pipeline;
  bool operator==(const ParallelConfig&) const = default;
};

void carry(Bridge section, ParallelConfig& parallel);
// dp = what the other axes leave of `world` workers, if they divide it.
void resolve_defaults(ParallelConfig& parallel, int world);
// That the layout, resolved as far as it can be, divides the model and has as many workers as there are, if
// that is known.
void check(const ParallelConfig& parallel, const ModelConfig& model, std::optional<int> world, Rules& rules);
// That the pipeline's schedule takes a step of so many micro-batches, which `key` makes.
void check_schedule(const ParallelConfig& parallel, std::int64_t micro_batches, const std::string& key,
                    Rules& rules);

}  // namespace jevons
