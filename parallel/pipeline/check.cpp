#include "parallel/pipeline/check.h"

#include <fmt/core.h>

#include <deque>
#include <span>
#include <string>

#include "kernels/core/error.h"
#include "parallel/pipeline/timeline.h"

namespace jevons {
namespace {

// What a rank has done of one of its stages, so far in its list.
struct Progress {
  std::int64_t forwards = 0, backwards = 0;
  std::deque<std::int64_t> weights_due;  // micro-batches of B without W
};

// Of one rank's list by itself.
class ListCheck {
 public:
  ListCheck(const PipelineSchedule& schedule, std::size_t rank, std::string_view source)
      : shape_(schedule.shape), actions_(schedule.ranks[rank]), rank_(rank), source_(source) {
    progress_.resize(static_cast<std::size_t>(shape_.virtual_stages));
  }

  void run() {
    for (place_ = 0; place_ < actions_.size(); ++place_) {
      check_place(now());
      check_pair();
      switch (now().kind) {
        case ActionKind::kForward:
          check_next(progress().forwards);
          ++progress().forwards;
          break;
        case ActionKind::kBackward:
        case ActionKind::kBackwardInput:
          check_next(progress().backwards);
          if (now().micro_batch >= forwards_before()) fault("comes before its forward");
          ++progress().backwards;
          check_weight_order();
          break;
        case ActionKind::kBackwardWeight:
          check_weight();
          progress().weights_due.pop_front();
          break;
      }
    }
    for (int chunk = 0; chunk < shape_.virtual_stages; ++chunk) check_whole(chunk);
  }

 private:
  const Action& now() const { return actions_[place_]; }

  Progress& progress() { return progress_[static_cast<std::size_t>(shape_.chunk_of(now().stage))]; }

  // Pairs begin together: the forward beside a backward is no forward before it.
  std::int64_t forwards_before() {
    const bool beside =
        place_ > 0 && actions_[place_ - 1].with_next && actions_[place_ - 1].stage == now().stage;
    return progress().forwards - (beside ? 1 : 0);
  }

  template <class... Args>
  [[noreturn]] void fault(fmt::format_string<Args...> format, Args&&... args) const {
    fail(ExitCode::kUsage, "{}:{}: {}, action {} of the line: {}", source_, rank_ + 1, to_text(now()),
         place_ + 1, fmt::format(format, std::forward<Args>(args)...));
  }

  void check_place(const Action& action) const {
    if (action.stage < 0 || action.stage >= shape_.stages())
      fault("the stages are 0 to {}", shape_.stages() - 1);
    if (action.micro_batch < 0 || action.micro_batch >= shape_.micro_batches)
      fault("the micro-batches are 0 to {}", shape_.micro_batches - 1);
    const int rank = shape_.rank_of(action.stage);
    if (static_cast<std::size_t>(rank) != rank_)
      fault("stage {} is on rank {}, which is line {}", action.stage, rank, rank + 1);
  }

  void check_pair() const {
    if (!now().with_next) return;
    const bool pair = place_ + 1 < actions_.size() && now().kind == ActionKind::kForward &&
                      actions_[place_ + 1].kind == ActionKind::kBackward;
    if (!pair) fault("a pair is a forward and a D, as (F0.3|D3.1)");
  }

  void check_next(std::int64_t next) const {
    if (now().micro_batch < next) fault("the second time");
    if (now().micro_batch > next)
      fault("micro-batch {} comes next: those of a stage are in ascending order", next);
  }

  // A D adds to the weights' gradients too, so no W of an earlier micro-batch may be left.
  void check_weight_order() {
    std::deque<std::int64_t>& due = progress().weights_due;
    if (now().kind == ActionKind::kBackwardInput) due.push_back(now().micro_batch);
    if (now().kind == ActionKind::kBackward && !due.empty())
      fault("W{}.{} comes first: weight gradients are summed in ascending order", now().stage, due.front());
  }

  void check_weight() {
    const std::deque<std::int64_t>& due = progress().weights_due;
    if (now().micro_batch >= progress().backwards) fault("comes before its B");
    if (due.empty() || now().micro_batch < due.front()) fault("is done already, by a W or a D");
    if (now().micro_batch > due.front())
      fault("micro-batch {} comes next: those of a stage are in ascending order", due.front());
  }

  void check_whole(int chunk) const {
    const Progress& done = progress_[static_cast<std::size_t>(chunk)];
    const std::int64_t stage = shape_.stage_of(static_cast<int>(rank_), chunk), m = shape_.micro_batches;
    const auto missing = [&](std::string_view what, std::int64_t micro_batch) {
      fail(ExitCode::kUsage, "{}:{}: {}{}.{} is missing", source_, rank_ + 1, what, stage, micro_batch);
    };
    if (done.forwards < m) missing("F", done.forwards);
    if (done.backwards < m) missing("the backward of F", done.backwards);
    if (!done.weights_due.empty()) missing("W", done.weights_due.front());
  }

  const PipelineShape& shape_;
  const std::vector<Action>& actions_;
  std::size_t rank_, place_ = 0;
  std::string_view source_;
  std::vector<Progress> progress_;  // by chunk
};

// That all ranks together come to the end of their lists.
void check_progress(const PipelineSchedule& schedule, std::string_view source) {
  const Timeline played = timeline(schedule, equal_times(schedule.shape));
  std::string waiting;
  for (std::size_t r = 0; r < schedule.ranks.size(); ++r) {
    const std::vector<Action>& actions = schedule.ranks[r];
    const std::size_t at = played[r].size();
    if (at == actions.size()) continue;
    const auto stuck = std::span(actions).subspan(at, actions[at].with_next ? 2 : 1);
    if (waiting.empty()) {
      waiting = fmt::format("{}:{}: {}, action {} of the line: would wait for ever", source, r + 1,
                            to_text(stuck), at + 1);
    } else {
      waiting += fmt::format("; so would {}, action {} of line {}", to_text(stuck), at + 1, r + 1);
    }
  }
  if (!waiting.empty()) fail(ExitCode::kUsage, "{}", waiting);
}

}  // namespace

void check(const PipelineSchedule& schedule, std::string_view source) {
  ENSURE(schedule.ranks.size() == static_cast<std::size_t>(schedule.shape.ranks), "{}: {} lists of {} ranks",
         source, schedule.ranks.size(), schedule.shape.ranks);
  for (std::size_t r = 0; r < schedule.ranks.size(); ++r) ListCheck(schedule, r, source).run();
  check_progress(schedule, source);
}

}  // namespace jevons
