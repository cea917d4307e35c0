// The energy that this worker's host takes. The lowest rank of a host speaks for it; the others report
// nothing, so that a sum over ranks counts every host once.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "trainer/config/run_config.h"
#include "trainer/cost/energy.h"

namespace jevons {

class HostEnergy {
 public:
  HostEnergy() = default;  // of a worker that does not speak
  // `hosts`: name of the host of every rank. CPUs are read by RAPL, GPUs by NVML.
  HostEnergy(const std::vector<std::string>& hosts, int rank, DeviceChoice device);

  bool speaks_for_host() const { return speaks_; }
  enum class Freshness : std::uint8_t { kRecent, kNow };
  // Joules since construction; nothing without a counter. kRecent: a reading at most one second old, since
  // counters may cost more than a step of a small model.
  std::optional<double> joules(Freshness freshness);
  std::string describe() const { return meter_ ? meter_->describe() : "not measured"; }

 private:
  using Clock = std::chrono::steady_clock;
  bool speaks_ = false;
  std::unique_ptr<EnergyMeter> meter_;
  Clock::time_point read_time_;
  std::optional<double> joules_;
};

}  // namespace jevons
