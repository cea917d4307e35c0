#include "trainer/model/stashes.h"

#include <algorithm>

#include "kernels/core/error.h"

namespace jevons {

Stashes::Stashes(Device device, const Stream* stream) : device_(device), stream_(stream) {
  free_.push_back(&stashes_.emplace_back(Arena(device, "stash", stream)));
}

Arena& Stashes::take(PhaseClock* clock) {
  if (free_.empty()) return stashes_.emplace_back(Arena(device_, "stash", stream_)).arena;
  Stash& stash = *free_.front();
  free_.pop_front();
  if (!stash.leaving.empty()) {
    const PhaseScope phase(clock, Phase::kPipeline);
    for (Work& message : stash.leaving) message.wait();
    stash.leaving.clear();
  }
  stash.arena.reset();
  return stash.arena;
}

Stashes::Stash& Stashes::stash_of(const Arena& arena) {
  const auto found = std::ranges::find_if(stashes_, [&](const Stash& s) { return &s.arena == &arena; });
  ENSURE(found != stashes_.end(), "an arena that is no stash");
  return *found;
}

void Stashes::give_back(Arena& arena) {
  free_.push_back(&stash_of(arena));
}

void Stashes::hold(Arena& arena, Work message) {
  stash_of(arena).leaving.push_back(std::move(message));
}

void Stashes::wait(PhaseClock* clock) {
  const PhaseScope phase(clock, Phase::kPipeline);
  for (Stash& stash : stashes_) {
    for (Work& message : stash.leaving) message.wait();
    stash.leaving.clear();
  }
}

void Stashes::reset() {
  for (Stash& stash : stashes_) stash.arena.reset();
}

std::size_t Stashes::peak_bytes() const {
  std::size_t sum = 0;
  for (const Stash& stash : stashes_) sum += stash.arena.peak_bytes();
  return sum;
}

std::size_t Stashes::held_bytes() const {
  std::size_t sum = 0;
  for (const Stash& stash : stashes_) sum += stash.arena.held_bytes();
  return sum;
}

}  // namespace jevons
