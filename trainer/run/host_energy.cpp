#include "trainer/run/host_energy.h"

#include <algorithm>

namespace jevons {

HostEnergy::HostEnergy(const std::vector<std::string>& hosts, int rank, DeviceChoice device) {
  const auto first = std::find(hosts.begin(), hosts.end(), hosts.at(static_cast<std::size_t>(rank)));
  speaks_ = first - hosts.begin() == rank;
  if (speaks_) meter_ = device == DeviceChoice::kCuda ? open_nvml() : open_rapl();
  joules(Freshness::kNow);
}

std::optional<double> HostEnergy::joules(Freshness freshness) {
  constexpr std::chrono::seconds kStale{1};
  const Clock::time_point now = Clock::now();
  if (!meter_ || (freshness == Freshness::kRecent && now - read_time_ < kStale)) return joules_;
  read_time_ = now;
  return joules_ = meter_->joules();
}

}  // namespace jevons
