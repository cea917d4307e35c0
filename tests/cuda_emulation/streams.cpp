#include "streams.h"

#include <sched.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "checker.h"
#include "control.h"
#include "device_memory.h"
#include "engine.h"
#include "findings.h"

namespace {
using Clock = std::vector<std::uint32_t>;  // by stream: its last operation known to be finished

struct Queued {
  std::uint32_t number;
  emulation::Operation run = nullptr;  // null for a wait
  cudaEvent_t awaited = nullptr;
  std::size_t awaited_record = 0;
};
}  // namespace

struct CUstream_st {
  std::uint32_t id = 0;
  int priority = 0;
  std::uint32_t length = 0;  // operations given so far
  Clock clock;
  std::deque<Queued> queue;
};

struct CUevent_st {
  std::size_t recorded = 0, reached = 0;  // records asked for, and passed by the stream
  cudaStream_t stream = nullptr;          // of the last record
  Clock clock;
};

namespace emulation {
namespace {

struct OperationOrder {
  std::uint32_t stream, place;
  Clock before;
};

struct Device {
  std::vector<cudaStream_t> streams;
  std::vector<OperationOrder> operations = std::vector<OperationOrder>(kFirstOperation);
  std::vector<std::shared_ptr<CUevent_st>> events;
  std::uint32_t streams_made = 0;
  Clock host;
  cudaError_t error = cudaSuccess;
  std::mt19937_64 random{settings().seed};
};
Device& device() {
  static Device instance;
  static const std::thread::id owner = std::this_thread::get_id();
  if (std::this_thread::get_id() != owner) {
    std::fprintf(stderr, "emulation: one host thread drives the device of a process\n");
    std::abort();
  }
  return instance;
}

void join(Clock& clock, const Clock& other) {
  if (clock.size() < other.size()) clock.resize(other.size());
  for (std::size_t i = 0; i < other.size(); ++i) clock[i] = std::max(clock[i], other[i]);
}

bool runnable(cudaStream_t stream) {
  if (stream->queue.empty()) return false;
  const Queued& next = stream->queue.front();
  return next.awaited == nullptr || next.awaited->reached >= next.awaited_record;
}

// False: the operation is waiting for something outside.
bool run_next(cudaStream_t stream) {
  Queued& next = stream->queue.front();
  position.operation = next.number;
  if (next.run && next.run() == cudaErrorNotReady) return false;
  stream->queue.pop_front();
  return true;
}

// The stream whose next operation the lazy mode must run so that `wanted` can go on.
cudaStream_t obstacle(cudaStream_t wanted) {
  while (!runnable(wanted)) wanted = wanted->queue.front().awaited->stream;
  return wanted;
}

enum class Progress { kMade, kWaitsForOthers, kNever };

// Runs an operation that brings `wanted` on, or any, according to the mode.
Progress step(cudaStream_t wanted) {
  Device& gpu = device();
  std::vector<cudaStream_t> able;
  std::copy_if(gpu.streams.begin(), gpu.streams.end(), std::back_inserter(able), runnable);
  if (able.empty()) {
    misuse(cudaErrorUnknown, "every stream waits for an event that no stream will reach");
    return Progress::kNever;
  }
  const bool random = settings().streams == Streams::kRandom;
  if (run_next(random ? able[gpu.random() % able.size()] : obstacle(wanted))) return Progress::kMade;
  run_next(able[gpu.random() % able.size()]);
  return Progress::kWaitsForOthers;
}

template <class Done>
void run_until(cudaStream_t wanted, Done done) {
  const DeviceRuns scope;
  while (!done()) {
    const Progress progress = step(wanted);
    if (progress == Progress::kNever) return;
    if (progress == Progress::kWaitsForOthers) sched_yield();
  }
}

// Whether it is done, after what needs nothing from outside.
template <class Done>
bool done_by_now(cudaStream_t wanted, Done done) {
  const DeviceRuns scope;
  while (!done()) {
    if (step(wanted) != Progress::kMade) return done();
  }
  return true;
}

cudaError_t append(cudaStream_t stream, Queued operation) {
  Device& gpu = device();
  join(stream->clock, gpu.host);
  if (operation.awaited != nullptr) join(stream->clock, operation.awaited->clock);
  if (stream->clock.size() <= stream->id) stream->clock.resize(stream->id + 1);
  stream->clock[stream->id] = ++stream->length;
  operation.number = next_operation();
  gpu.operations.push_back({stream->id, stream->length, stream->clock});
  stream->queue.push_back(std::move(operation));
  if (settings().streams == Streams::kEager) run_until(stream, [&] { return stream->queue.empty(); });
  return gpu.error;
}

bool known(cudaStream_t stream) {
  const auto& streams = device().streams;
  return std::find(streams.begin(), streams.end(), stream) != streams.end();
}

}  // namespace

cudaError_t enqueue(cudaStream_t stream, Operation operation) {
  if (!known(stream)) return misuse(cudaErrorInvalidResourceHandle, "work on the default stream, or on none");
  return append(stream, {0, std::move(operation), nullptr, 0});
}

std::uint32_t next_operation() {
  return static_cast<std::uint32_t>(device().operations.size());
}

bool happened_before(std::uint32_t earlier, std::uint32_t later) {
  const OperationOrder& order = device().operations[earlier];
  const Clock& before = device().operations[later].before;
  return order.stream < before.size() && order.place <= before[order.stream];
}

cudaStream_t create_stream(int priority) {
  Device& gpu = device();
  auto* stream = new CUstream_st;
  stream->priority = priority;
  stream->id = gpu.streams_made++;
  gpu.streams.push_back(stream);
  return stream;
}

int live_streams() {
  return static_cast<int>(device().streams.size());
}

int priority_of(cudaStream_t stream) {
  return known(stream) ? stream->priority : 0;
}

void destroy_stream(cudaStream_t stream) {
  synchronise(stream);
  std::erase(device().streams, stream);
  delete stream;
}

cudaError_t synchronise(cudaStream_t stream) {
  if (!known(stream))
    return misuse(cudaErrorInvalidResourceHandle, "synchronises the default stream, or none");
  run_until(stream, [&] { return stream->queue.empty(); });
  join(device().host, stream->clock);
  return device().error;
}

void finish_all_streams() {
  const std::vector<cudaStream_t> streams = device().streams;
  for (cudaStream_t stream : streams) synchronise(stream);
}

bool idle(cudaStream_t stream) {
  if (!known(stream)) {
    misuse(cudaErrorInvalidResourceHandle, "asks for the default stream, or none");
    return true;
  }
  if (!done_by_now(stream, [&] { return stream->queue.empty(); })) return false;
  join(device().host, stream->clock);
  return true;
}

cudaEvent_t create_event() {
  auto& events = device().events;
  events.push_back(std::make_shared<CUevent_st>());
  return events.back().get();
}

// Work already given may still pass or await the event; so it stays until the streams are idle.
void destroy_event(cudaEvent_t event) {
  Device& gpu = device();
  const auto it =
      std::find_if(gpu.events.begin(), gpu.events.end(), [&](const auto& e) { return e.get() == event; });
  if (it == gpu.events.end()) {
    misuse(cudaErrorInvalidResourceHandle, "cudaEventDestroy of what is no event");
    return;
  }
  const std::shared_ptr<CUevent_st> keep = *it;
  gpu.events.erase(it);
  for (cudaStream_t stream : gpu.streams) {
    if (!stream->queue.empty())
      stream->queue.push_back({stream->queue.back().number, [keep] { return cudaSuccess; }});
  }
}

cudaError_t record(cudaEvent_t event, cudaStream_t stream) {
  if (!known(stream))
    return misuse(cudaErrorInvalidResourceHandle, "an event is recorded on the default stream, or on none");
  const std::size_t number = ++event->recorded;
  event->stream = stream;
  event->clock = stream->clock;
  join(event->clock, device().host);
  return append(stream, {0, [event, number] {
                           event->reached = number;
                           return cudaSuccess;
                         }});
}

cudaError_t wait_for(cudaStream_t stream, cudaEvent_t event) {
  if (!known(stream))
    return misuse(cudaErrorInvalidResourceHandle, "the default stream, or none, waits for an event");
  if (event->recorded == 0) return device().error;
  return append(stream, {0, nullptr, event, event->recorded});
}

cudaError_t synchronise(cudaEvent_t event) {
  if (event->recorded == 0) return device().error;
  run_until(event->stream, [&] { return event->reached >= event->recorded; });
  join(device().host, event->clock);
  return device().error;
}

bool reached(cudaEvent_t event) {
  const auto done = [&] { return event->reached >= event->recorded; };
  if (event->recorded > 0 && !done_by_now(event->stream, done)) return false;
  join(device().host, event->clock);
  return true;
}

cudaError_t misuse(cudaError_t error, const std::string& what) {
  report(what);
  return device().error = error;
}

cudaError_t last_error() {
  return device().error;
}
void clear_error() {
  device().error = cudaSuccess;
}
void reseed(std::uint64_t seed) {
  device().random.seed(seed);
  seed_engine(seed);
}

}  // namespace emulation
