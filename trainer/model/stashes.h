// Arenas for the saved activations of passes: one for each pass under way, as many as are at once.
#pragma once

#include <cstddef>
#include <deque>
#include <vector>

#include "kernels/core/memory.h"
#include "kernels/core/phase_clock.h"
#include "parallel/communicator.h"

namespace jevons {

class Stashes {
 public:
  // stream: as an Arena's.
  Stashes(Device device, const Stream* stream);

  // For what is no pass of a training step; not while one is under way.
  Arena& first() { return stashes_.front().arena; }
  // Empty, and another one than those that were not given back. Of those that were, the one that was first,
  // so that its messages had most time to leave.
  Arena& take(PhaseClock* clock);
  void give_back(Arena& arena);
  // `message` is on its way out of `arena`, which is not taken again before.
  void hold(Arena& arena, Work message);
  // All messages have left.
  void wait(PhaseClock* clock);

  void reset();
  std::size_t peak_bytes() const;  // of all
  std::size_t held_bytes() const;
  std::size_t size() const { return stashes_.size(); }

 private:
  struct Stash {
    Arena arena;
    std::vector<Work> leaving{};
  };
  Stash& stash_of(const Arena& arena);

  Device device_;
  const Stream* stream_;
  std::deque<Stash> stashes_;
  std::deque<Stash*> free_;  // first: given back first
};

}  // namespace jevons
