// Reads the text of a schedule.
#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <optional>

#include "kernels/core/error.h"
#include "parallel/pipeline/check.h"

namespace jevons {
namespace {

constexpr std::int64_t kMost = 1'000'000;  // stages and micro-batches

// The text before any of `ends`, which goes with it.
std::string_view cut_to(std::string_view& text, std::string_view ends) {
  const std::size_t size = std::min(text.find_first_of(ends), text.size());
  const std::string_view part = text.substr(0, size);
  text.remove_prefix(std::min(size + 1, text.size()));
  return part;
}

std::optional<std::int64_t> number(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < 0 || value >= kMost ||
      text[0] == '-')
    return std::nullopt;
  return value;
}

// "F0.3"
std::optional<Action> action_of(std::string_view word) {
  const std::size_t kind = word.empty() ? std::string_view::npos : kActionLetters.find(word[0]);
  if (kind == std::string_view::npos) return std::nullopt;
  word.remove_prefix(1);
  const std::string_view stage = cut_to(word, ".");
  const std::optional<std::int64_t> s = number(stage), i = number(word);
  if (!s || !i) return std::nullopt;
  return Action{static_cast<ActionKind>(kind), *s, *i};
}

// An action, or two as "(F0.3|D3.1)"; none: not understood.
std::vector<Action> actions_of(std::string_view word) {
  if (!word.starts_with('(')) {
    const std::optional<Action> action = action_of(word);
    return action ? std::vector<Action>{*action} : std::vector<Action>{};
  }
  if (!word.ends_with(')')) return {};
  std::string_view rest = word.substr(1, word.size() - 2);
  std::optional<Action> first = action_of(cut_to(rest, "|")), second = action_of(rest);
  if (!first || !second) return {};
  first->with_next = true;
  return {*first, *second};
}

std::vector<Action> list_of(std::string_view line, std::string_view place) {
  std::vector<Action> actions;
  while (!line.empty()) {
    const std::string_view word = cut_to(line, " \t\r");
    if (word.empty()) continue;
    const std::vector<Action> more = actions_of(word);
    if (more.empty()) {
      fail(ExitCode::kUsage,
           "{}: '{}' is no action; they are written F0.3 (kind F, B, W or D; stage; micro-batch, both below "
           "{}) or as a "
           "pair (F0.3|D3.1)",
           place, word, kMost);
    }
    actions.insert(actions.end(), more.begin(), more.end());
  }
  if (actions.empty()) fail(ExitCode::kUsage, "{}: no actions; a line is the list of a rank", place);
  return actions;
}

bool has_stage(const std::vector<Action>& actions, std::int64_t stage) {
  return std::any_of(actions.begin(), actions.end(), [&](const Action& a) { return a.stage == stage; });
}

PipelineShape shape_of(const PipelineSchedule& schedule, std::string_view source) {
  std::int64_t stages = 0, micro_batches = 0, actions = 0;
  for (const std::vector<Action>& list : schedule.ranks) {
    actions += static_cast<std::int64_t>(list.size());
    for (const Action& action : list) {
      stages = std::max(stages, action.stage + 1);
      micro_batches = std::max(micro_batches, action.micro_batch + 1);
    }
  }
  const auto ranks = static_cast<std::int64_t>(schedule.ranks.size());
  if (stages > actions)
    fail(ExitCode::kUsage, "{}: stage {} in a schedule of {} actions", source, stages - 1, actions);
  if (stages % ranks != 0) {
    fail(ExitCode::kUsage, "{}: stages 0 to {} on {} ranks, one for each line: {} is no multiple of {}",
         source, stages - 1, ranks, stages, ranks);
  }
  PipelineShape shape{static_cast<int>(ranks), static_cast<int>(stages / ranks), micro_batches};
  const bool turns = shape.virtual_stages == 2 && ranks > 1 && has_stage(schedule.ranks.back(), ranks);
  if (turns && !has_stage(schedule.ranks.front(), ranks)) shape.placement = StagePlacement::kV;
  return shape;
}

}  // namespace

PipelineSchedule parse_schedule(std::string_view text, std::string_view source) {
  PipelineSchedule schedule;
  while (!text.empty()) {
    const std::string place = fmt::format("{}:{}", source, schedule.ranks.size() + 1);
    schedule.ranks.push_back(list_of(cut_to(text, "\n"), place));
  }
  if (schedule.ranks.empty()) fail(ExitCode::kUsage, "{}: no lists", source);
  schedule.shape = shape_of(schedule, source);
  check(schedule, source);
  return schedule;
}

}  // namespace jevons
