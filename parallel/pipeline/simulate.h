// What a schedule costs: time, waiting and memory of each rank, before anything runs.
#pragma once

#include <cstdint>
#include <vector>

#include "parallel/pipeline/schedule.h"
#include "parallel/pipeline/timeline.h"

namespace jevons {

struct RankFigures {
  double busy = 0;   // in its actions
  double idle = 0;   // from the schedule's begin to its end, not busy
  double slack = 0;  // the part of idle behind its last action, free for sums of gradients
  // Most micro-batches between the begin of F and the end of W or D; and between B and the end of W. In those
  // of a rank's whole share of the model: one on one of v stages is 1 / v.
  double peak = 0, weights_held = 0;
  std::vector<std::int64_t> ring_depth{};  // of each chunk: most_in_flight of its stage
  int inbox_slots = 0;                     // RankProgram's
};

struct PipelineFigures {
  double makespan = 0;  // from the first action's begin to the last one's end
  std::vector<RankFigures> ranks;
};

// `schedule` is generated or checked.
PipelineFigures simulate(const PipelineSchedule& schedule, const PipelineTimes& times);

}  // namespace jevons
