// One block of threads while it runs: who waits where, and who may go on. Inside the engine only.
#pragma once

#include <random>
#include <string>
#include <vector>

#include "engine.h"
#include "fibers.h"

namespace emulation {

enum class State : std::uint8_t { kFresh, kReady, kInWarpOp, kAtBarrier, kEnded };

struct Thread : ThreadView {
  unsigned warp = 0;
  State state = State::kFresh;
  Fiber* fiber = nullptr;
  Place place;  // where it waits
};

// Lanes that meet with one mask. Two sets of values, so that a fast lane's next value does not replace one
// that a slow lane has yet to read.
struct Meetings {
  std::uint32_t mask = 0, arrived = 0, count = 0;
  std::uint32_t lanes[2] = {};
  WarpOp op{};
  Place place;
  std::uint64_t value[2][32];
};

struct Warp {
  std::uint32_t alive = 0;  // lanes that have not ended
  std::vector<Meetings> meetings;
};

class Block {
 public:
  Block();

  // Runs all threads; false if it failed, and error() says how.
  bool run(uint3 index, dim3 grid, dim3 threads, std::size_t dynamic_shared_bytes, const Kernel& kernel);
  const std::string& error() const { return error_; }
  void seed(std::uint64_t seed) { random_.seed(seed); }

  // Called by device threads.
  void barrier(Place place);
  Meeting meet(WarpOp op, std::uint32_t mask, std::uint64_t value, Place place);
  void* shared_variable(const void* key, std::size_t bytes, std::size_t alignment);
  void* dynamic_shared() const { return shared_ + kRedZone; }
  // Leaves every fiber where it is and ends the launch.
  [[noreturn]] void abandon(std::string error);

  unsigned number_of(const ThreadView* view) const;
  Thread& running() const { return *static_cast<Thread*>(thread_view); }
  bool holds(const void* p) const { return p >= threads_.data() && p < threads_.data() + threads_.size(); }

 private:
  static constexpr std::size_t kRedZone = 256;  // bytes between shared variables

  struct SharedVariable {
    const void* key;
    char* memory;
  };

  static void fiber_body();
  void set_up(uint3 index, dim3 grid, dim3 threads);
  void set_up_shared(std::size_t dynamic_bytes);
  Thread* pick();
  void wake(Thread& thread);
  void suspend();
  void end(Thread& thread);
  void complete(Warp& warp, Meetings& meetings);
  Meetings& meetings_for(Warp& warp, std::uint32_t mask, Place place);
  std::string waiting() const;

  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  std::vector<unsigned> ready_, fresh_;  // numbers of threads that can go on, or start
  FiberPool fibers_;
  Fiber host_;
  const Kernel* kernel_ = nullptr;
  unsigned alive_ = 0, at_barrier_ = 0;
  Place barrier_place_;
  char* shared_ = nullptr;
  std::size_t shared_used_ = 0;
  std::vector<SharedVariable> variables_;
  std::string error_;
  std::mt19937_64 random_;
};

Block& block();
std::string to_string(Place place);

}  // namespace emulation
