#include "block.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>

#include "checker.h"
#include "control.h"

namespace emulation {

constinit ThreadView* thread_view = nullptr;
constinit BlockView block_view{};

namespace {

constexpr std::size_t round_up(std::size_t n, std::size_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

// Every thread has its own copy of the parameters.
[[gnu::noinline]] void run_thread(const Kernel& kernel) {
  alignas(16) char arguments[kMostArgumentBytes];
  std::memcpy(arguments, kernel.arguments.data(), kernel.arguments.size());
  kernel.invoke(arguments);
}

}  // namespace

Block& block() {
  static Block instance;
  return instance;
}

std::string to_string(Place place) {
  const std::string path = place.file;
  return path.substr(path.rfind('/') + 1) + ":" + std::to_string(place.line);
}

Block::Block()
    : fibers_(&Block::fiber_body),
      shared_(static_cast<char*>(std::aligned_alloc(1024, kMostSharedMemory))),
      random_(settings().seed) {
  shared_used_ = kMostSharedMemory;
}

unsigned Block::number_of(const ThreadView* view) const {
  return static_cast<unsigned>(static_cast<const Thread*>(view) - threads_.data());
}

bool Block::run(uint3 index, dim3 grid, dim3 threads, std::size_t dynamic_shared_bytes,
                const Kernel& kernel) {
  kernel_ = &kernel;
  error_.clear();
  set_up_shared(dynamic_shared_bytes);
  set_up(index, grid, threads);
  Thread* first = pick();
  first->fiber = fibers_.take();
  thread_view = first;
  switch_fiber(&host_, first->fiber);
  thread_view = nullptr;
  if (error_.empty()) return true;
  fibers_.restart();
  return false;
}

void Block::set_up(uint3 index, dim3 grid, dim3 threads) {
  const unsigned n = threads.x * threads.y * threads.z;
  block_view = {index, threads, grid};
  alive_ = n, at_barrier_ = 0;
  threads_.assign(n, {});
  warps_.assign((n + 31) / 32, {});
  ready_.clear(), fresh_.clear();
  for (unsigned i = 0; i < n; ++i) {
    Thread& thread = threads_[i];
    thread.index = {i % threads.x, i / threads.x % threads.y, i / (threads.x * threads.y)};
    thread.lane = i % 32, thread.warp = i / 32;
    warps_[thread.warp].alive |= 1u << thread.lane;
    fresh_.push_back(settings().order == Order::kReverse ? i : n - 1 - i);
  }
  position.block = index.x + grid.x * (index.y + grid.y * index.z);
  position.barrier = 0;
  std::fill(std::begin(position.warp_syncs), std::end(position.warp_syncs), WarpSyncs{});
}

void Block::set_up_shared(std::size_t dynamic_bytes) {
  position.shared_memory = shared_;
  std::memset(shared_, 0xff, shared_used_);  // NaN and -1: a variable that was not set shows
  forget_shared_memory(shared_used_);
  note_shared_memory(dynamic_shared(), dynamic_bytes);
  shared_used_ = 2 * kRedZone + round_up(dynamic_bytes, kRedZone);
  variables_.clear();
}

void* Block::shared_variable(const void* key, std::size_t bytes, std::size_t alignment) {
  for (const SharedVariable& variable : variables_) {
    if (variable.key == key) return variable.memory;
  }
  const std::size_t begin = round_up(shared_used_, std::max<std::size_t>(alignment, 16));
  if (begin + bytes + kRedZone > kMostSharedMemory) abandon("shared memory exhausted");
  shared_used_ = round_up(begin + bytes + kRedZone, 16);
  note_shared_memory(shared_ + begin, bytes);
  variables_.push_back({key, shared_ + begin});
  return shared_ + begin;
}

void Block::fiber_body() {
  for (Block& self = block();;) {
    Thread* me = &self.running();
    Fiber* fiber = me->fiber;
    run_thread(*self.kernel_);
    self.end(*me);
    Thread* next = self.pick();
    if (next == nullptr && self.alive_ > 0) self.abandon("no thread can go on:" + self.waiting());
    if (next != nullptr && next->fiber == nullptr) {  // a fresh thread takes over this stack
      next->fiber = fiber;
      thread_view = next;
      continue;
    }
    self.fibers_.give_back(fiber);
    thread_view = next;
    switch_fiber(fiber, next != nullptr ? next->fiber : &self.host_);
  }
}

void Block::end(Thread& thread) {
  thread.state = State::kEnded, --alive_;
  Warp& warp = warps_[thread.warp];
  warp.alive &= ~(1u << thread.lane);
  for (Meetings& meetings : warp.meetings) {
    if (meetings.arrived != 0 && meetings.arrived == (meetings.mask & warp.alive)) complete(warp, meetings);
  }
  if (at_barrier_ > 0)
    abandon("a thread has ended while others wait at __syncthreads " + to_string(barrier_place_));
}

Thread* Block::pick() {
  const std::size_t candidates = ready_.size() + fresh_.size();
  if (candidates == 0) return nullptr;
  std::vector<unsigned>* list = ready_.empty() ? &fresh_ : &ready_;
  if (settings().order == Order::kRandom) {
    const std::size_t choice = random_() % candidates;
    list = choice < ready_.size() ? &ready_ : &fresh_;
    std::swap((*list)[list == &ready_ ? choice : choice - ready_.size()], list->back());
  }
  const unsigned number = list->back();
  list->pop_back();
  return &threads_[number];
}

void Block::wake(Thread& thread) {
  thread.state = State::kReady;
  ready_.push_back(number_of(&thread));
}

void Block::suspend() {
  Thread* me = &running();
  Thread* next = pick();
  if (next == nullptr) abandon("no thread can go on:" + waiting());
  if (next == me) return;
  if (next->fiber == nullptr) next->fiber = fibers_.take();
  thread_view = next;
  switch_fiber(me->fiber, next->fiber);
}

std::string Block::waiting() const {
  std::map<std::string, int> places;
  for (const Thread& thread : threads_) {
    if (thread.state == State::kInWarpOp) ++places["in a warp operation at " + to_string(thread.place)];
    if (thread.state == State::kAtBarrier) ++places["at __syncthreads " + to_string(thread.place)];
  }
  std::string text;
  for (const auto& [place, count] : places)
    text.append(" ").append(std::to_string(count)).append(" ").append(place).append(";");
  return text;
}

void Block::abandon(std::string error) {
  error_ = std::move(error);
  Fiber* fiber = running().fiber;
  thread_view = nullptr;
  switch_fiber(fiber, &host_);
  std::abort();  // an abandoned fiber is never resumed
}

void Block::barrier(Place place) {
  Thread& me = running();
  if (alive_ < threads_.size())
    abandon("__syncthreads " + to_string(place) + " after a thread of the block has ended");
  if (at_barrier_++ == 0) barrier_place_ = place;
  if (!(barrier_place_ == place)) {
    abandon("divergent __syncthreads: threads at " + to_string(place) + " and at " +
            to_string(barrier_place_));
  }
  if (at_barrier_ < alive_) {
    me.state = State::kAtBarrier, me.place = place;
    suspend();
    return;
  }
  at_barrier_ = 0, ++position.barrier;
  for (std::size_t i = threads_.size(); i-- > 0;) {
    if (threads_[i].state == State::kAtBarrier) wake(threads_[i]);
  }
  if (settings().order == Order::kRandom) wake(me), suspend();
}

Meetings& Block::meetings_for(Warp& warp, std::uint32_t mask, Place place) {
  constexpr std::size_t kMostMasks = 8;
  for (Meetings& meetings : warp.meetings) {
    if (meetings.mask == mask) return meetings;
  }
  if (warp.meetings.size() == kMostMasks)
    abandon("more than 8 different masks in one warp at " + to_string(place));
  warp.meetings.reserve(kMostMasks);  // lanes keep pointers into it
  warp.meetings.emplace_back().mask = mask;
  return warp.meetings.back();
}

Meeting Block::meet(WarpOp op, std::uint32_t mask, std::uint64_t value, Place place) {
  Thread& me = running();
  Warp& warp = warps_[me.warp];
  if ((mask >> me.lane & 1) == 0) abandon("the mask leaves out the calling lane at " + to_string(place));
  Meetings& meetings = meetings_for(warp, mask, place);
  if (meetings.arrived == 0) meetings.op = op, meetings.place = place;
  if (meetings.op != op || !(meetings.place == place)) {
    abandon("divergent warp: lanes at " + to_string(place) + " and at " + to_string(meetings.place));
  }
  const unsigned set = meetings.count & 1;
  meetings.value[set][me.lane] = value;
  meetings.arrived |= 1u << me.lane;
  if (meetings.arrived != (mask & warp.alive)) {
    me.state = State::kInWarpOp, me.place = place;
    suspend();
  } else {
    complete(warp, meetings);
    if (settings().order == Order::kRandom) wake(me), suspend();
  }
  return {meetings.value[set], meetings.lanes[set]};
}

namespace {

// For the checker: every run of neighbours of which all that live are among `arrived` has met.
void count_sync(std::size_t warp, std::uint32_t arrived, std::uint32_t alive) {
  for (std::size_t i = 0; i < std::size(kNeighbours); ++i) {
    for (unsigned lane = 0; lane < 32; ++lane) {
      const unsigned first = lane / kNeighbours[i] * kNeighbours[i];
      const std::uint32_t run = (~0u >> (32 - kNeighbours[i])) << first;
      if ((alive & run & ~arrived) == 0) ++position.warp_syncs[32 * warp + lane][i];
    }
  }
}

}  // namespace

void Block::complete(Warp& warp, Meetings& meetings) {
  const auto number = static_cast<std::size_t>(&warp - warps_.data());
  meetings.lanes[meetings.count & 1] = meetings.arrived;
  for (unsigned lane = 32; lane-- > 0;) {
    if ((meetings.arrived >> lane & 1) == 0) continue;
    Thread& thread = threads_[32 * number + lane];
    if (thread.state == State::kInWarpOp) wake(thread);
  }
  if (meetings.op == WarpOp::kSync) count_sync(number, meetings.arrived, warp.alive);
  meetings.arrived = 0, ++meetings.count;
}

}  // namespace emulation
