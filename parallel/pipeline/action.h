// Pipeline schedules as data: what a rank does with its stages and micro-batches, one action after the other.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace jevons {

enum class ActionKind : std::uint8_t {
  kForward,         // F
  kBackward,        // D: both halves in one go
  kBackwardInput,   // B: the gradient of a stage's input
  kBackwardWeight,  // W: those of its weights, after B
};
inline constexpr std::string_view kActionLetters = "FDBW";  // by ActionKind

// Written F0.3: forward of stage 0 on micro-batch 3. Every kind of a stage takes its micro-batches in order.
struct Action {
  ActionKind kind = ActionKind::kForward;
  std::int64_t stage = 0, micro_batch = 0;
  // A pair, written (F0.3|D3.1): in one go with the action behind it, neither needing the other's result.
  bool with_next = false;
  bool operator==(const Action&) const = default;
};

inline bool is_backward(ActionKind kind) {  // makes the gradient of the stage's input
  return kind == ActionKind::kBackward || kind == ActionKind::kBackwardInput;
}
inline bool frees_pass(ActionKind kind) {  // the last action of a stage on a micro-batch
  return kind == ActionKind::kBackward || kind == ActionKind::kBackwardWeight;
}

std::string to_text(const Action& action);             // "F0.3", without what it is paired with
std::string to_text(std::span<const Action> actions);  // "F0.0 (F0.3|D3.1)"

// The most micro-batches of `stage` that are at once between their forward and the end of their backward: the
// depth of a ring in which micro-batch i takes place i % depth.
std::int64_t most_in_flight(std::span<const Action> actions, std::int64_t stage);

}  // namespace jevons
