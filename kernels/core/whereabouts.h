// Where a worker is in its run: written by its own thread at every change, read by the watchdog's
// (trainer/run/watchdog.h), which tells by it whether the worker gets on and, if not, whom it waits for.
#pragma once

#include <cstdint>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/core/phase_clock.h"

namespace jevons {

// One call of a communicator. All its ranks count its collectives alike, so ranks whose numbers or names
// differ tell that one left a collective out. Sends and recvs are counted apart: ranks differ in how many
// they make.
struct CollectiveCall {
  const char* name = "";
  std::string_view over;    // name of the communicator
  std::int64_t number = 0;  // from 1
  int peer = -1;            // rank in the communicator: of a send or recv, or the root of a broadcast
  bool connects = false;    // makes the connections that calls need
};

enum class Pass : std::uint8_t { kNone, kForward, kBackward };

struct WorkerPlace {
  std::int64_t changes = 0;      // grows as long as the worker gets on
  std::int64_t step = 0;         // under way or the last one, from 1
  std::int64_t steps_begun = 0;  // of this launch
  bool in_step = false;
  std::int64_t micro_batch = -1, layer = -1;  // of the step under way; -1: none
  std::string action;                         // of a pipeline's schedule: "D1.3"; empty: none
  Pass pass = Pass::kNone;
  Phase phase = Phase::kInit;
  bool in_collective = false;  // else the figures below are of the last one
  bool connects = false;       // it is one that makes connections
  bool awaits_device = false;  // that is, all work given to it, with the last collective
  std::string collective, over;
  std::int64_t number = 0;
  int peer = -1;
  // Tokens of the last dispatch, by rank of ep.
  std::vector<std::int64_t> tokens_sent, tokens_received;
};

class Whereabouts {
 public:
  void enter(Phase phase);
  void begin_step(std::int64_t step);
  void end_step();
  void micro_batch(std::int64_t index);
  void action(std::string text);
  void layer(Pass pass, std::int64_t index);
  void begin(const CollectiveCall& call);
  void end_collective();
  void await_device();
  void end_await_device();
  void dispatch(std::span<const std::int64_t> sent, std::span<const std::int64_t> received);

  WorkerPlace now() const;

 private:
  mutable std::mutex mutex_;
  WorkerPlace place_;
};

// Whereabouts may be null: then nobody asks.
class CollectiveScope {
 public:
  CollectiveScope(Whereabouts* whereabouts, const CollectiveCall& call) : whereabouts_(whereabouts) {
    if (whereabouts_ != nullptr) whereabouts_->begin(call);
  }
  ~CollectiveScope() {
    if (whereabouts_ != nullptr) whereabouts_->end_collective();
  }
  CollectiveScope(const CollectiveScope&) = delete;
  CollectiveScope& operator=(const CollectiveScope&) = delete;

 private:
  Whereabouts* whereabouts_;
};

// The host waits for its device.
class DeviceWaitScope {
 public:
  explicit DeviceWaitScope(Whereabouts* whereabouts) : whereabouts_(whereabouts) {
    if (whereabouts_ != nullptr) whereabouts_->await_device();
  }
  ~DeviceWaitScope() {
    if (whereabouts_ != nullptr) whereabouts_->end_await_device();
  }
  DeviceWaitScope(const DeviceWaitScope&) = delete;
  DeviceWaitScope& operator=(const DeviceWaitScope&) = delete;

 private:
  Whereabouts* whereabouts_;
};

}  // namespace jevons
