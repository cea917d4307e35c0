#pragma once

#include <cstdint>
#include <vector>

namespace jevons {

enum class BudgetScope : std::uint8_t { kRun, kDirectory };

// What may be spent; 0 = no limit.
struct BudgetConfig {
  double device_hours = 0;
  double money = 0;  // in the currency of the price
  double energy_kwh = 0;
  double end_time = 0;                             // seconds since 1970, UTC
  std::vector<double> warn_at = {0.5, 0.8, 0.95};  // shares of each limit
  BudgetScope scope = BudgetScope::kRun;
  bool operator==(const BudgetConfig&) const = default;
};

}  // namespace jevons
