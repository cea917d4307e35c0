// Limits of device-hours, money, energy and time, held against what was spent. Knows no clock, no ledger and
// no run: what was spent comes in, what to say comes out.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "trainer/cost/account.h"
#include "trainer/cost/budget_config.h"

namespace jevons {

// What something took or will take. Unknown money or energy is nothing, never 0.
struct Spending {
  double device_seconds = 0;
  double seconds = 0;  // by the clock on the wall
  std::optional<double> money = 0.0, joules = 0.0;

  Spending operator+(const Spending& other) const;
};

// The sums of launches; their wall-clock time is not of interest.
Spending spending_of(const CostSum& sum);

class Budget {
 public:
  // `start_time`: when the first launch of the run began, seconds since 1970; budget.date counts from there.
  Budget(const BudgetConfig& config, std::string currency, double start_time);

  bool has_limits() const;
  // Throws Error(kUsage) when there is a limit of something that `spent` does not know.
  void check_measurable(const Spending& spent) const;
  // The first limit that `spent` and then `ahead` pass, as of `time`, in words; empty: none. Amounts that are
  // unknown pass no limit.
  std::string limit_passed(const Spending& spent, const Spending& ahead, double time) const;
  // One sentence for every limit of which a higher share than before was reached.
  std::vector<std::string> warnings(const Spending& spent, double time);

 private:
  // One limit and what is held against it, all in the limit's unit.
  struct Use {
    const char* option;
    double limit;
    std::optional<double> spent, ahead;
    std::string (*show)(double amount, const std::string& currency);
  };
  std::string date_has_passed() const;
  // The limits that are set, always in the same order.
  std::vector<Use> uses(const Spending& spent, const Spending& ahead, double time) const;

  BudgetConfig config_;
  std::string currency_;
  double start_time_;
  std::vector<double> warned_;  // by limit: the highest share that was warned of
};

}  // namespace jevons
