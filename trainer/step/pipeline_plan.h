// What one worker does in the pipeline of a run: which stages it holds, and its programs for a number of
// micro-batches. The same for a model without a pipeline, which is one stage.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "parallel/pipeline/lower.h"
#include "trainer/config/run_config.h"
#include "trainer/model/stage.h"

namespace jevons {

class PipelinePlan {
 public:
  // Of rank `rank` of the pipeline. The configuration must be resolved.
  PipelinePlan(const RunConfig& config, int rank);

  // This rank's stages, in the order of the model, and their numbers there.
  const std::vector<StageRange>& ranges() const { return ranges_; }
  const std::vector<std::int64_t>& numbers() const { return numbers_; }

  // A step's. Under layout-invariant numerics a weight's gradient is taken where its input's is, whatever the
  // schedule would put off: a sum of single sequences knows only whole ones.
  const RankProgram& training(std::int64_t micro_batches);
  const RankProgram& evaluation(std::int64_t micro_batches);

 private:
  ParallelConfig parallel_;
  PipelineShape shape_;  // of a step of global_batch_size
  bool whole_sequences_;
  int rank_;
  std::vector<StageRange> ranges_;
  std::vector<std::int64_t> numbers_;
  std::map<std::int64_t, RankProgram> training_, evaluation_;  // by micro-batches
};

// The schedule of a step of so many micro-batches. Throws Error(kUsage) if there is none, Error(kData) naming
// file and line for a file that is none.
PipelineSchedule step_schedule(const ParallelConfig& parallel, std::int64_t micro_batches);

// The stages of the whole model, in its order.
std::vector<StageRange> all_stages(const RunConfig& config);

}  // namespace jevons
