// Fibers of the threads of a block: a stack each, kept for the next block. Switching costs some 20 ns.
#pragma once

#include <cstddef>
#include <vector>

namespace emulation {

inline constexpr std::size_t kStackBytes = std::size_t{128} << 10;

struct Fiber {
  void* context = nullptr;  // where it goes on
  char* stack = nullptr;
};

// Leaves `from` and goes on in `to`; returns when somebody switches back to `from`.
void switch_fiber(Fiber* from, Fiber* to);

class FiberPool {
 public:
  // `body` never returns: it ends by switching away for good.
  explicit FiberPool(void (*body)()) : body_(body) {}

  Fiber* take();
  void give_back(Fiber* fiber) { free_.push_back(fiber); }
  // Drops what all fibers were doing.
  void restart();

 private:
  void (*body_)();
  std::vector<Fiber*> all_, free_;
};

}  // namespace emulation
