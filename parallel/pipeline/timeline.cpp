#include "parallel/pipeline/timeline.h"

#include <algorithm>
#include <limits>
#include <span>

#include "kernels/core/error.h"

namespace jevons {
namespace {

constexpr double kNotYet = std::numeric_limits<double>::infinity();

class Player {
 public:
  Player(const PipelineSchedule& schedule, const PipelineTimes& times)
      : schedule_(schedule), times_(times), played_(schedule.ranks.size()) {
    const std::int64_t passes = schedule.shape.stages() * schedule.shape.micro_batches;
    ENSURE(times.stages.size() == static_cast<std::size_t>(schedule.shape.stages()),
           "times of {} stages, not {}", times.stages.size(), schedule.shape.stages());
    forward_.resize(static_cast<std::size_t>(passes), kNotYet);
    backward_.resize(static_cast<std::size_t>(passes), kNotYet);
  }

  Timeline play() {
    for (bool moved = true; moved;) {
      moved = false;
      for (std::size_t r = 0; r < played_.size(); ++r)
        while (advance(r)) moved = true;
    }
    return std::move(played_);
  }

 private:
  // The next action of a rank, or pair of actions.
  bool advance(std::size_t rank) {
    const std::vector<Action>& actions = schedule_.ranks[rank];
    std::vector<ActionTime>& played = played_[rank];
    if (played.size() == actions.size()) return false;
    const std::size_t size = actions[played.size()].with_next ? 2 : 1;
    const auto together = std::span(actions).subspan(played.size(), size);
    double begin = played.empty() ? 0 : played.back().end;
    for (const Action& action : together) begin = std::max(begin, ready(action));
    if (begin == kNotYet) return false;
    const double end = begin + duration(together);
    for (const Action& action : together) {
      if (action.kind == ActionKind::kForward) result(forward_, action.stage, action.micro_batch) = end;
      if (is_backward(action.kind)) result(backward_, action.stage, action.micro_batch) = end;
      played.push_back({begin, end});
    }
    return true;
  }

  double ready(const Action& action) {
    const std::int64_t s = action.stage, i = action.micro_batch;
    if (action.kind == ActionKind::kBackwardWeight) return result(backward_, s, i);
    if (action.kind == ActionKind::kForward) return s == 0 ? 0 : arrival(forward_, s - 1, s, i);
    const double forward = result(forward_, s, i);
    const bool last = s + 1 == schedule_.shape.stages();
    return last ? forward : std::max(forward, arrival(backward_, s + 1, s, i));
  }

  double arrival(std::vector<double>& results, std::int64_t from, std::int64_t to, std::int64_t micro_batch) {
    const bool local = schedule_.shape.rank_of(from) == schedule_.shape.rank_of(to);
    return result(results, from, micro_batch) + (local ? 0 : times_.hop);
  }

  double& result(std::vector<double>& results, std::int64_t stage, std::int64_t micro_batch) {
    return results[static_cast<std::size_t>(stage * schedule_.shape.micro_batches + micro_batch)];
  }

  double products(const Action& action) const {
    const StageTimes& t = times_.stages[static_cast<std::size_t>(action.stage)];
    switch (action.kind) {
      case ActionKind::kForward:
        return t.forward;
      case ActionKind::kBackward:
        return t.backward_input + t.backward_weight;
      case ActionKind::kBackwardInput:
        return t.backward_input;
      case ActionKind::kBackwardWeight:
        break;
    }
    return t.backward_weight;
  }

  double exchange(const Action& action) const {
    if (action.kind == ActionKind::kBackwardWeight) return 0;
    return times_.stages[static_cast<std::size_t>(action.stage)].exchange;
  }

  // A pair is over when both its products and its exchanges, on one wire, are.
  double duration(std::span<const Action> together) const {
    const Action& first = together.front();
    if (together.size() == 1) return products(first) + exchange(first);
    const Action& second = together.back();
    return std::max(products(first) + products(second), exchange(first) + exchange(second));
  }

  const PipelineSchedule& schedule_;
  const PipelineTimes& times_;
  Timeline played_;
  std::vector<double> forward_, backward_;  // when it ended, by stage and micro-batch
};

}  // namespace

PipelineTimes equal_times(const PipelineShape& shape, const StageTimes& rank, double hop) {
  const double v = shape.virtual_stages;
  const StageTimes stage = {rank.forward / v, rank.backward_input / v, rank.backward_weight / v,
                            rank.exchange / v};
  return {std::vector<StageTimes>(static_cast<std::size_t>(shape.stages()), stage), hop};
}

Timeline timeline(const PipelineSchedule& schedule, const PipelineTimes& times) {
  return Player(schedule, times).play();
}

}  // namespace jevons
