#include "trainer/config/cost_section.h"

#include "trainer/config/section.h"

namespace jevons {

void carry(Bridge b, CostConfig& cost) {
  b("project", cost.project);
  b.choice("purpose", cost.purpose);
  b("device_type", cost.device_type);
  b("price_per_device_hour", cost.price_per_device_hour);
  b("currency", cost.currency);
  b("peak_tflops", cost.peak_tflops);
  b("heartbeat_seconds", cost.heartbeat_seconds);
  b("prices", cost.prices);
}

void check(const CostConfig& cost, Rules& rules) {
  const double price = cost.price_per_device_hour;
  rules.require(
      {"cost.price_per_device_hour"}, [&] { return price >= 0 || price == -1; },
      "cost.price_per_device_hour = {} is not a price; use one of at least 0, or -1 = unknown", price);
}

}  // namespace jevons
