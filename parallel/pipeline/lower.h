// A schedule with its messages: what each rank does, sends and receives, one after the other. All sends and
// receives lie in one order that every rank keeps to, so they need one communicator and no tags, and cannot
// dead-lock even if every call blocks until its peer has come (docs/pipeline.md, "Messages").
#pragma once

#include <cstdint>
#include <vector>

#include "parallel/pipeline/schedule.h"

namespace jevons {

struct Instruction {
  enum class Kind : std::uint8_t {
    kRun,      // the action; one with_next and the action of the next instruction in one go
    kSend,     // what the action made (an activation, or a gradient) to `peer`
    kReceive,  // what the action will take, from `peer` into the inbox; may be waited for as late as its kRun
  };
  Kind kind = Kind::kRun;
  Action action;  // of this rank
  int peer = -1;
  // Of the inbox. kReceive: filled. kRun: holds its input, and is free as soon as it has run; -1: no message
  // (the first stage's forward, the last one's backward, W, or the stage beside is on this rank).
  int slot = -1;
  bool operator==(const Instruction&) const = default;
};

struct RankProgram {
  std::vector<Instruction> instructions;
  int inbox_slots = 0;  // received and not yet used, at most at once
};

// By rank. `schedule` is generated or checked.
std::vector<RankProgram> lower(const PipelineSchedule& schedule);

}  // namespace jevons
