#include "parallel/pipeline/lower.h"

#include <algorithm>
#include <tuple>

#include "kernels/core/error.h"
#include "parallel/pipeline/timeline.h"

namespace jevons {
namespace {

// Of one order of everything that happens: actions when they begin, messages when the action that makes them
// ends, before whatever begins then.
struct Event {
  enum class Kind : std::uint8_t { kMessage, kRun };
  double time;
  Kind kind;
  std::size_t rank, place;  // of the action, in its rank's list
  auto key() const { return std::tuple(time, kind, rank, place); }
};

// What an action takes or makes, named by the stage that takes it.
struct Payload {
  bool gradient;
  std::int64_t stage, micro_batch;
};

Payload taken_by(const Action& action) {
  return {is_backward(action.kind), action.stage, action.micro_batch};
}

// The first stage's B makes one for no stage, and so does W.
Payload made_by(const Action& action) {
  if (action.kind == ActionKind::kForward) return {false, action.stage + 1, action.micro_batch};
  return {true, is_backward(action.kind) ? action.stage - 1 : -1, action.micro_batch};
}

// Whether it goes to another rank.
bool sends(const PipelineShape& shape, const Action& action) {
  const std::int64_t to = made_by(action).stage;
  return to >= 0 && to < shape.stages() && shape.rank_of(to) != shape.rank_of(action.stage);
}

// By the times of equal stages; those of others would do as well.
std::vector<Event> one_order(const PipelineSchedule& schedule) {
  const PipelineTimes times{.stages =
                                std::vector<StageTimes>(static_cast<std::size_t>(schedule.shape.stages()))};
  const Timeline played = timeline(schedule, times);
  std::vector<Event> events;
  for (std::size_t r = 0; r < played.size(); ++r) {
    ENSURE(played[r].size() == schedule.ranks[r].size(), "rank {} of the schedule waits for ever", r);
    for (std::size_t k = 0; k < played[r].size(); ++k) {
      events.push_back({played[r][k].begin, Event::Kind::kRun, r, k});
      if (sends(schedule.shape, schedule.ranks[r][k]))
        events.push_back({played[r][k].end, Event::Kind::kMessage, r, k});
    }
  }
  std::sort(events.begin(), events.end(), [](const Event& a, const Event& b) { return a.key() < b.key(); });
  return events;
}

class Lowering {
 public:
  explicit Lowering(const PipelineSchedule& schedule) : schedule_(schedule), ranks_(schedule.ranks.size()) {
    const std::int64_t passes = schedule.shape.stages() * schedule.shape.micro_batches;
    inputs_.resize(static_cast<std::size_t>(2 * passes));
    for (const std::vector<Action>& actions : schedule.ranks)
      for (const Action& action : actions)
        if (action.kind != ActionKind::kBackwardWeight) input(taken_by(action)).taker = action;
  }

  std::vector<RankProgram> lower() {
    for (const Event& event : one_order(schedule_)) {
      const Action& action = schedule_.ranks[event.rank][event.place];
      if (event.kind == Event::Kind::kRun) {
        run(event.rank, action);
      } else {
        send(event.rank, action);
      }
    }
    std::vector<RankProgram> programs;
    for (Rank& rank : ranks_)
      programs.push_back({std::move(rank.instructions), static_cast<int>(rank.slot_taken.size())});
    return programs;
  }

 private:
  struct Input {
    Action taker;
    int slot = -1;
  };
  struct Rank {
    std::vector<Instruction> instructions;
    std::vector<bool> slot_taken;
  };

  void run(std::size_t rank, const Action& action) {
    const int slot = action.kind == ActionKind::kBackwardWeight ? -1 : input(taken_by(action)).slot;
    ranks_[rank].instructions.push_back({.kind = Instruction::Kind::kRun, .action = action, .slot = slot});
    if (slot >= 0) ranks_[rank].slot_taken[static_cast<std::size_t>(slot)] = false;
  }

  // And the receive at the peer.
  void send(std::size_t rank, const Action& action) {
    const Payload made = made_by(action);
    const int peer = schedule_.shape.rank_of(made.stage);
    Rank& receiver = ranks_[static_cast<std::size_t>(peer)];
    Input& to = input(made);
    to.slot = take_slot(receiver.slot_taken);
    ranks_[rank].instructions.push_back({.kind = Instruction::Kind::kSend, .action = action, .peer = peer});
    receiver.instructions.push_back({Instruction::Kind::kReceive, to.taker, static_cast<int>(rank), to.slot});
  }

  static int take_slot(std::vector<bool>& taken) {
    auto free = std::find(taken.begin(), taken.end(), false);
    if (free == taken.end()) free = taken.insert(free, false);
    *free = true;
    return static_cast<int>(free - taken.begin());
  }

  Input& input(const Payload& payload) {
    const std::int64_t pass = payload.stage * schedule_.shape.micro_batches + payload.micro_batch;
    return inputs_[static_cast<std::size_t>(2 * pass + (payload.gradient ? 1 : 0))];
  }

  const PipelineSchedule& schedule_;
  std::vector<Rank> ranks_;
  std::vector<Input> inputs_;  // of activations and gradients in turn, by stage and micro-batch
};

}  // namespace

std::vector<RankProgram> lower(const PipelineSchedule& schedule) {
  return Lowering(schedule).lower();
}

}  // namespace jevons
