#include "trainer/cost/budget.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "kernels/core/error.h"
#include "trainer/io/format.h"

namespace jevons {
namespace {

constexpr double kSecondsPerHour = 3600, kJoulesPerKwh = 3.6e6;
constexpr const char* kDate = "budget.date";

std::string show_hours(double hours, const std::string&) {
  return format_device_hours(hours * kSecondsPerHour) + " device-h";
}
std::string show_money(double amount, const std::string& currency) {
  return format_money(amount, currency);
}
std::string show_energy(double kwh, const std::string&) {
  return format_energy(kwh * kJoulesPerKwh);
}
std::string show_time(double seconds, const std::string&) {
  return format_duration(std::max(0.0, seconds));
}

std::optional<double> scaled(const std::optional<double>& value, double factor) {
  return value ? std::optional(*value * factor) : std::nullopt;
}

std::optional<double> sum(const std::optional<double>& a, const std::optional<double>& b) {
  return a && b ? std::optional(*a + *b) : std::nullopt;
}

}  // namespace

Spending Spending::operator+(const Spending& other) const {
  return {device_seconds + other.device_seconds, seconds + other.seconds, sum(money, other.money),
          sum(joules, other.joules)};
}

Spending spending_of(const CostSum& total) {
  Spending spending{.device_seconds = total.device_seconds};
  if (total.launches == 0) return spending;
  spending.money = total.single_amount();
  if (total.launches > total.early_launches) spending.joules = total.energy();
  return spending;
}

Budget::Budget(const BudgetConfig& config, std::string currency, double start_time)
    : config_(config), currency_(std::move(currency)), start_time_(start_time) {
  warned_.resize(uses({}, {}, 0).size());
}

std::vector<Budget::Use> Budget::uses(const Spending& spent, const Spending& ahead, double time) const {
  std::vector<Use> uses;
  if (config_.device_hours > 0) {
    uses.push_back({"budget.device_hours", config_.device_hours, spent.device_seconds / kSecondsPerHour,
                    ahead.device_seconds / kSecondsPerHour, show_hours});
  }
  if (config_.money > 0) {
    uses.push_back({"budget.money", config_.money, spent.money, ahead.money, show_money});
  }
  if (config_.energy_kwh > 0) {
    uses.push_back({"budget.energy_kwh", config_.energy_kwh, scaled(spent.joules, 1 / kJoulesPerKwh),
                    scaled(ahead.joules, 1 / kJoulesPerKwh), show_energy});
  }
  if (config_.end_time > 0) {
    uses.push_back({kDate, config_.end_time - start_time_, time - start_time_, ahead.seconds, show_time});
  }
  return uses;
}

bool Budget::has_limits() const {
  return !warned_.empty();
}

void Budget::check_measurable(const Spending& spent) const {
  if (config_.money > 0 && !spent.money) {
    fail(ExitCode::kUsage,
         "budget.money cannot be watched: a price is unknown or currencies differ; give "
         "cost.price_per_device_hour or cost.prices, or use budget.device_hours");
  }
  if (config_.energy_kwh > 0 && !spent.joules) {
    fail(ExitCode::kUsage,
         "budget.energy_kwh cannot be watched: not every host has an energy counter that can be read, or "
         "a launch was not measured (jevons doctor); use budget.device_hours");
  }
}

std::string Budget::date_has_passed() const {
  return fmt::format("{}: the date, {}, has passed", kDate, format_utc(config_.end_time));
}

std::string Budget::limit_passed(const Spending& spent, const Spending& ahead, double time) const {
  for (const Use& use : uses(spent, ahead, time)) {
    if (!use.spent || *use.spent + use.ahead.value_or(0) < use.limit) continue;
    if (std::string_view(use.option) == kDate && *use.spent >= use.limit) return date_has_passed();
    std::string text = fmt::format("{}: {} of {} are spent", use.option, use.show(*use.spent, currency_),
                                   use.show(use.limit, currency_));
    if (use.ahead.value_or(0) > 0) {
      text += fmt::format(", and what comes next needs {}", use.show(*use.ahead, currency_));
    }
    return text;
  }
  return "";
}

std::vector<std::string> Budget::warnings(const Spending& spent, double time) {
  std::vector<std::string> texts;
  const std::vector<Use> all = uses(spent, {}, time);
  for (std::size_t i = 0; i < all.size(); ++i) {
    const Use& use = all[i];
    double reached = 0;
    for (const double share : config_.warn_at) {
      if (use.spent && *use.spent >= share * use.limit) reached = std::max(reached, share);
    }
    if (reached <= warned_[i]) continue;
    warned_[i] = reached;
    texts.push_back(fmt::format("{}: {} of {} are spent ({:.0f} %)", use.option,
                                use.show(*use.spent, currency_), use.show(use.limit, currency_),
                                100 * *use.spent / use.limit));
  }
  return texts;
}

}  // namespace jevons
