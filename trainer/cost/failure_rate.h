// How often a run dies, from its ledger, and how often it should be saved then.
#pragma once

#include <cstdint>

#include "trainer/cost/account.h"

namespace jevons {

// Launches that ended without an exit record, and the device-seconds in which they did.
struct FailureRecord {
  std::int64_t failures = 0;
  double device_seconds = 0;
};
FailureRecord failure_record(const RunAccount& earlier);

// What is assumed while a run has not failed yet: a failure every 50,000 device-hours. Llama 3 405B had 419
// unexpected interruptions in 54 days on 16,384 GPUs (arXiv:2407.21783, section 3.3.4): one in 50,678
// GPU-hours.
inline constexpr double kAssumedDeviceHours = 50'000;

// Mean seconds between two failures of a job of `devices`. Without failures: as assumed, or the time without
// one if that is longer.
double mean_seconds_between_failures(const FailureRecord& record, std::int64_t devices);

// Seconds of training between two saves that lose the least to saves and failures together, for a save that
// costs `cost` seconds: sqrt(2 cost mtbf) (J. W. Young, CACM 17(9), 1974, doi:10.1145/361147.361115), at most
// mtbf, which a save costs when it is long (J. T. Daly, FGCS 22(3), 2006, doi:10.1016/j.future.2004.11.016).
double best_seconds_between_saves(double cost, double mtbf);

}  // namespace jevons
