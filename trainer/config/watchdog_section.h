// watchdog:
#pragma once

namespace jevons {

class Bridge;

// Limits at which a run that does not get on is ended; 0 = no limit.
struct WatchdogConfig {
  double stall_seconds = 600;        // without any progress of a worker
  double long_stall_seconds = 3600;  // the same while the run starts, saves and ends, and in its first step
  double connect_seconds = 180;      // while devices are connected over the network
  double step_seconds = 0;           // of a step but the first
  bool operator==(const WatchdogConfig&) const = default;
};

// It has no rule.
void carry(Bridge section, WatchdogConfig& watchdog);

}  // namespace jevons
