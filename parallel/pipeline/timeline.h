// When each action of a schedule begins and ends, given how long they take. A rank starts an action as soon
// as it has ended those before and what the action needs has arrived.
#pragma once

#include <vector>

#include "parallel/pipeline/schedule.h"

namespace jevons {

// Of a stage and a micro-batch, in any unit of time.
struct StageTimes {
  double forward = 1, backward_input = 1, backward_weight = 1;
  // Of its expert exchanges, on top of F and again of B or D; of a pair they travel under the products.
  double exchange = 0;
};

struct PipelineTimes {
  std::vector<StageTimes> stages;
  double hop = 0;  // a message between two ranks takes this long and keeps neither from computing
};

// Each stage takes 1 / v of `rank`, the times of a rank's whole share of the model.
PipelineTimes equal_times(const PipelineShape& shape, const StageTimes& rank = {}, double hop = 0);

struct ActionTime {
  double begin = 0, end = 0;
};

// By rank and place in its list; the two actions of a pair have the same times. A rank's list of times ends
// where it would wait for ever.
using Timeline = std::vector<std::vector<ActionTime>>;
Timeline timeline(const PipelineSchedule& schedule, const PipelineTimes& times);

}  // namespace jevons
