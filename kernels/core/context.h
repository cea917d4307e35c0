// What every layer and op is handed: where to run, where to put results, whom to tell.
#pragma once

#include "kernels/core/memory.h"
#include "kernels/core/phase_clock.h"
#include "kernels/core/stream.h"
#include "kernels/core/work_meter.h"

namespace jevons {

class Turns;
class Whereabouts;

// Two arenas, one rule. `stash` keeps one micro-batch's saved activations from its forward to its backward;
// `work` is released at block boundaries by the block alone. listener, clock and whereabouts may be null
// (tests).
struct Context {
  Device device = Device::kCpu;
  Device modelled = Device::kCpu;  // on kMeta: whose memory is counted, scratch of its libraries included
  DType compute = DType::kF32;     // dtype of activations and of the weights that GEMMs read
  Arena* stash = nullptr;
  Arena* work = nullptr;
  WorkListener* listener = nullptr;  // learns of every op
  PhaseClock* clock = nullptr;
  Whereabouts* whereabouts = nullptr;
  Stream* stream = nullptr;  // of the ops' work; needed on kCuda alone
  int threads = 1;           // CPU threads of this worker
  Turns* turns = nullptr;    // where two passes run in turns: what waits for the wire hands over first

  // Blocks the host until the device has done all work of the ops so far.
  void synchronise() const;
  // Called by facades.
  void record(const WorkCall& call) const {
    if (listener != nullptr) listener->on(call);
  }
};

}  // namespace jevons
