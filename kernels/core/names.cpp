#include "kernels/core/phase_clock.h"
#include "kernels/core/work_meter.h"

namespace jevons {

const char* name_of(WorkKind kind) {
  static constexpr const char* kNames[kNumWorkKinds] = {"gemm", "grouped_gemm", "attention",
                                                        "row",  "optimizer",    "wire"};
  return kNames[static_cast<std::size_t>(kind)];
}

const char* name_of(Phase phase) {
  static constexpr const char* kNames[kNumPhases] = {
      "init",     "data",      "compute",    "dispatch", "grad_sync", "imbalance", "bubble",
      "pipeline", "optimizer", "checkpoint", "eval",     "log",       "shutdown",  "idle"};
  return kNames[static_cast<std::size_t>(phase)];
}

}  // namespace jevons
