#include "parallel/pipeline/simulate.h"

#include <algorithm>

#include "kernels/core/error.h"
#include "parallel/pipeline/lower.h"

namespace jevons {
namespace {

// The most that a running count comes to, and where it stands.
struct Count {
  std::int64_t now = 0, most = 0;
  void add(std::int64_t n) { most = std::max(most, now += n); }
};

RankFigures memory_of(const PipelineSchedule& schedule, int rank) {
  const PipelineShape& shape = schedule.shape;
  const std::vector<Action>& actions = schedule.ranks[static_cast<std::size_t>(rank)];
  Count passes, weights;
  for (const Action& action : actions) {
    passes.add(action.kind == ActionKind::kForward);
    weights.add(action.kind == ActionKind::kBackwardInput);
    passes.add(-frees_pass(action.kind));
    weights.add(-(action.kind == ActionKind::kBackwardWeight));
  }
  const double v = shape.virtual_stages;
  RankFigures figures{.peak = static_cast<double>(passes.most) / v,
                      .weights_held = static_cast<double>(weights.most) / v};
  for (int chunk = 0; chunk < shape.virtual_stages; ++chunk)
    figures.ring_depth.push_back(most_in_flight(actions, shape.stage_of(rank, chunk)));
  return figures;
}

double busy_time(const std::vector<Action>& actions, const std::vector<ActionTime>& times) {
  double busy = 0;
  for (std::size_t k = 0; k < actions.size(); ++k)
    if (!actions[k].with_next) busy += times[k].end - times[k].begin;  // a pair once
  return busy;
}

}  // namespace

PipelineFigures simulate(const PipelineSchedule& schedule, const PipelineTimes& times) {
  const Timeline played = timeline(schedule, times);
  const std::vector<RankProgram> programs = lower(schedule);
  PipelineFigures figures;
  for (const std::vector<ActionTime>& rank : played)
    figures.makespan = std::max(figures.makespan, rank.back().end);
  for (std::size_t r = 0; r < played.size(); ++r) {
    RankFigures rank = memory_of(schedule, static_cast<int>(r));
    rank.busy = busy_time(schedule.ranks[r], played[r]);
    rank.idle = figures.makespan - rank.busy;
    rank.slack = figures.makespan - played[r].back().end;
    rank.inbox_slots = programs[r].inbox_slots;
    figures.ranks.push_back(std::move(rank));
  }
  return figures;
}

}  // namespace jevons
