// Puts every second of a worker's life into exactly one phase (docs/cost.md).
// A clock is a stack: entering a phase stops the one below; the sum over phases is the time since
// construction.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>

namespace jevons {

enum class Phase : std::uint8_t {
  kInit,
  kData,
  kCompute,
  kDispatch,
  kGradSync,
  kImbalance,
  kBubble,    // of a pipeline: another stage has not got as far
  kPipeline,  // a message between stages is on its way
  kOptimizer,
  kCheckpoint,
  kEval,
  kLog,
  kShutdown,
  kIdle
};
inline constexpr std::size_t kNumPhases = 14;
const char* name_of(Phase phase);

class Whereabouts;

class PhaseClock {
 public:
  using Clock = std::chrono::steady_clock;
  // `start`: when the process started, so that time before main() is in kInit.
  explicit PhaseClock(Clock::time_point start = Clock::now()) : last_(start) {}
  // Every change of phase is told to `whereabouts` from now on; it must outlive the clock.
  void report_to(Whereabouts& whereabouts) { whereabouts_ = &whereabouts; }
  // Null if nobody asks.
  Whereabouts* whereabouts() const { return whereabouts_; }

  // Ends the running phase and starts `phase`; returns the phase that was running.
  Phase enter(Phase phase) {
    const Clock::time_point now = Clock::now();
    seconds_[static_cast<std::size_t>(current_)] += std::chrono::duration<double>(now - last_).count();
    last_ = now;
    const Phase before = current_;
    current_ = phase;
    if (whereabouts_ != nullptr && phase != before) tell();
    return before;
  }
  Phase current() const { return current_; }
  // Seconds per phase up to now.
  std::array<double, kNumPhases> seconds() {
    enter(current_);
    return seconds_;
  }

 private:
  void tell() const;

  Whereabouts* whereabouts_ = nullptr;
  Clock::time_point last_;
  Phase current_ = Phase::kInit;
  std::array<double, kNumPhases> seconds_{};
};

// A null clock is allowed: then nothing is measured.
class PhaseScope {
 public:
  PhaseScope(PhaseClock* clock, Phase phase)
      : clock_(clock), before_(clock != nullptr ? clock->enter(phase) : phase) {}
  ~PhaseScope() {
    if (clock_ != nullptr) clock_->enter(before_);
  }
  PhaseScope(const PhaseScope&) = delete;
  PhaseScope& operator=(const PhaseScope&) = delete;

 private:
  PhaseClock* clock_;
  Phase before_;
};

}  // namespace jevons
