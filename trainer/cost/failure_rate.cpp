#include "trainer/cost/failure_rate.h"

#include <algorithm>
#include <cmath>

namespace jevons {

FailureRecord failure_record(const RunAccount& earlier) {
  FailureRecord record;
  record.device_seconds = earlier.total.device_seconds;
  for (const LaunchAccount& account : earlier.launches) {
    if (!account.launch.exit) ++record.failures;
  }
  return record;
}

double mean_seconds_between_failures(const FailureRecord& record, std::int64_t devices) {
  const double per_failure = record.failures > 0
                                 ? record.device_seconds / static_cast<double>(record.failures)
                                 : std::max(record.device_seconds, kAssumedDeviceHours * 3600);
  return per_failure / static_cast<double>(devices);
}

double best_seconds_between_saves(double cost, double mtbf) {
  return std::min(std::sqrt(2 * cost * mtbf), mtbf);
}

}  // namespace jevons
