// Energy counters of this host, read without privileges or libraries at build time: RAPL for CPUs, NVML for
// GPUs. What cannot be read is unknown, never 0. One worker per host reads them, for all of its devices.
#pragma once

#include <memory>
#include <optional>
#include <string>

namespace jevons {

class EnergyMeter {
 public:
  virtual ~EnergyMeter() = default;
  // Joules since the meter was opened; nothing when a counter cannot be read any more. Call at least once a
  // minute: counters wrap around.
  virtual std::optional<double> joules() = 0;
  virtual std::string describe() const = 0;  // "RAPL: package-0, dram", "NVML: 8 GPUs"
};

// CPU packages, and memory where it is counted apart, of the whole host: what other programs take on it is
// included. Source: Linux powercap, Documentation/power/powercap/powercap.rst. Null when there is no zone or
// one cannot be read (on most systems energy_uj is for root only).
std::unique_ptr<EnergyMeter> open_rapl(const std::string& powercap = "/sys/class/powercap");

// Every GPU that the driver shows, by nvmlDeviceGetTotalEnergyConsumption (Volta and newer). The library is
// loaded when this is called; null when it is absent or a GPU has no counter.
std::unique_ptr<EnergyMeter> open_nvml(const std::string& library = "libnvidia-ml.so.1");

}  // namespace jevons
