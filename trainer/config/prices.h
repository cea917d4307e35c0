// Price lists: what an hour of a device costs, by type and date. Format and rules: docs/cost.md.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "trainer/config/run_config.h"

namespace jevons {

struct Price {
  std::string device;     // words that the device's type must have
  std::string since;      // first day, YYYY-MM-DD, UTC
  double since_time = 0;  // the same in seconds since 1970
  double per_device_hour = 0;
  std::string currency;
  std::string source;
};

// Throws Error(kUsage), one mistake a line: "file:line:col: message".
std::vector<Price> read_prices(const std::string& path);

// The newest price at `time` (seconds since 1970) of the entries that name the device with the most words;
// words are compared without regard to case. Nothing when no entry fits.
std::optional<Price> find_price(const std::vector<Price>& prices, const std::string& device_type,
                                double time);

// Fills price, currency and price_source of `cost` from its price list for a launch at `time`. A price given
// in the configuration wins; without one and without a list the price stays unknown.
void resolve_price(CostConfig& cost, const std::string& device_type, double time);

}  // namespace jevons
