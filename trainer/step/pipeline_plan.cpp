#include "trainer/step/pipeline_plan.h"

#include "kernels/core/error.h"
#include "parallel/pipeline/check.h"
#include "trainer/io/file.h"
#include "trainer/model/stage_split.h"

namespace jevons {
namespace {

// Throws Error(kUsage) naming the file of a list that is not for this pipeline.
void check_shape(const PipelineShape& file, const ParallelConfig& parallel, std::int64_t micro_batches) {
  const PipelineConfig& pipeline = parallel.pipeline;
  const int each = pipeline.of_each_rank(parallel.layout.pp);
  if (file.ranks == parallel.layout.pp && file.virtual_stages == each && file.micro_batches == micro_batches)
    return;
  fail(ExitCode::kUsage,
       "{}: a schedule of {} ranks with {} stages each and {} micro-batches, but parallel.pp = {}, "
       "parallel.virtual_stages = {}, and a step has {} micro-batches",
       pipeline.file, file.ranks, file.virtual_stages, file.micro_batches, parallel.layout.pp, each,
       micro_batches);
}

// D in the place of B, nothing in that of W.
void join_halves(PipelineSchedule& schedule) {
  for (std::vector<Action>& actions : schedule.ranks) {
    std::erase_if(actions, [](const Action& a) { return a.kind == ActionKind::kBackwardWeight; });
    for (Action& action : actions) {
      if (action.kind == ActionKind::kBackwardInput) action.kind = ActionKind::kBackward;
    }
  }
}

}  // namespace

PipelineSchedule step_schedule(const ParallelConfig& parallel, std::int64_t micro_batches) {
  const std::string& file = parallel.pipeline.file;
  if (!file.empty()) {
    PipelineSchedule schedule = parse_schedule(read_text_file(file), file);
    check_shape(schedule.shape, parallel, micro_batches);
    return schedule;
  }
  return generate_schedule(parallel.pipeline.options(parallel.layout.pp, micro_batches));
}

std::vector<StageRange> all_stages(const RunConfig& config) {
  const PipelineConfig& pipeline = config.parallel.pipeline;
  const int pp = config.parallel.layout.pp;
  const std::int64_t stages = std::int64_t{pp} * pipeline.of_each_rank(pp);
  if (stages == 1) return stage_ranges(std::vector{config.model.num_layers});
  return stage_ranges(pipeline.stage_layers.empty() ? balanced_layers(config.model, stages)
                                                    : pipeline.stage_layers);
}

PipelinePlan::PipelinePlan(const RunConfig& config, int rank)
    : parallel_(config.parallel),
      whole_sequences_(config.numerics == Numerics::kLayoutInvariant),
      rank_(rank) {
  const std::vector<StageRange> all = all_stages(config);
  shape_ = step_schedule(parallel_, micro_batches_of(config, config.train.global_batch_size)).shape;
  for (int chunk = 0; chunk < shape_.virtual_stages; ++chunk) {
    numbers_.push_back(shape_.stage_of(rank, chunk));
    ranges_.push_back(all[static_cast<std::size_t>(numbers_.back())]);
  }
}

const RankProgram& PipelinePlan::training(std::int64_t micro_batches) {
  const auto [found, is_new] = training_.try_emplace(micro_batches);
  if (is_new) {
    PipelineSchedule schedule = step_schedule(parallel_, micro_batches);
    if (whole_sequences_) join_halves(schedule);
    found->second = lower(schedule)[static_cast<std::size_t>(rank_)];
  }
  return found->second;
}

const RankProgram& PipelinePlan::evaluation(std::int64_t micro_batches) {
  const auto [found, is_new] = evaluation_.try_emplace(micro_batches);
  if (is_new) {
    PipelineShape shape = shape_;
    shape.micro_batches = micro_batches;
    found->second = lower(generate_forward_schedule(shape))[static_cast<std::size_t>(rank_)];
  }
  return found->second;
}

}  // namespace jevons
