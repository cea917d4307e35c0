// Whether a schedule's lists are whole and can be worked through: what a list that somebody wrote must pass
// before it runs.
#pragma once

#include <string_view>

#include "parallel/pipeline/schedule.h"

namespace jevons {

// Every action stands on the rank of its stage; every stage meets each micro-batch once, in ascending order
// by kind of action, W and D together (so that sums of gradients keep their order), forward before backward,
// B before W; a pair is a forward and a D; nobody waits for ever. Throws Error(kUsage) "source:line: action
// ..." at the first fault; rank r is line r + 1.
void check(const PipelineSchedule& schedule, std::string_view source);

// The text that to_text writes, one line per rank, checked. Ranks, stages and micro-batches are what the text
// has; a V if stage P lies on the last rank. Throws as check does.
PipelineSchedule parse_schedule(std::string_view text, std::string_view source);

}  // namespace jevons
