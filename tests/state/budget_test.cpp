#include "trainer/cost/budget.h"

#include "kernels/core/error.h"
#include "tests/state/scratch.h"
#include "tests/support/catch.h"

namespace jevons::test {
namespace {

constexpr double kStart = 1'700'000'000;

Spending hours_and_money(double hours, double money) {
  return {.device_seconds = 3600 * hours, .seconds = 1800 * hours, .money = money, .joules = std::nullopt};
}

}  // namespace

TEST_CASE("a budget without limits never stops a run") {
  Budget budget({}, "USD", kStart);
  CHECK_FALSE(budget.has_limits());
  CHECK(budget.limit_passed(hours_and_money(1e9, 1e9), hours_and_money(1e9, 1e9), 1e12).empty());
  CHECK(budget.warnings(hours_and_money(1e9, 1e9), 1e12).empty());
}

TEST_CASE("each limit stops at what was spent and what comes next") {
  const Spending nothing;
  SECTION("device-hours") {
    const Budget budget({.device_hours = 10}, "USD", kStart);
    CHECK(budget.limit_passed(hours_and_money(9, 0), hours_and_money(0.9, 0), 0).empty());
    CHECK(budget.limit_passed(hours_and_money(9, 0), hours_and_money(1.25, 0), 0) ==
          "budget.device_hours: 9.00 device-h of 10.00 device-h are spent, and what comes next needs 1.25 "
          "device-h");
    CHECK(budget.limit_passed(hours_and_money(10, 0), nothing, 0) ==
          "budget.device_hours: 10.00 device-h of 10.00 device-h are spent");
  }
  SECTION("money, in the currency of the price") {
    const Budget budget({.money = 5}, "EUR", kStart);
    CHECK(budget.limit_passed(hours_and_money(100, 4), nothing, 0).empty());
    CHECK(budget.limit_passed(hours_and_money(1, 4), hours_and_money(1, 2), 0).find("4.00 EUR of 5.00 EUR") !=
          std::string::npos);
  }
  SECTION("energy") {
    const Budget budget({.energy_kwh = 2}, "USD", kStart);
    Spending spent{.joules = 3.6e6};
    CHECK(budget.limit_passed(spent, {.joules = 3.5e6}, 0).empty());
    CHECK(budget.limit_passed(spent, {.joules = 3.7e6}, 0).find("1.00 kWh of 2.00 kWh") != std::string::npos);
    CHECK(budget.limit_passed(spent, {.joules = std::nullopt}, 0).empty());  // unknown is not infinite
  }
  SECTION("date") {
    const Budget budget({.end_time = kStart + 7200}, "USD", kStart);
    CHECK(budget.limit_passed({}, {.seconds = 1000}, kStart + 6000).empty());
    CHECK(budget.limit_passed({}, {.seconds = 1300}, kStart + 6000) ==
          "budget.date: 1h 40m of 2h 00m are spent, and what comes next needs 21m 40s");
    CHECK(Budget({.end_time = kStart - 1}, "USD", kStart).limit_passed({}, {}, kStart) ==
          "budget.date: the date, 2023-11-14 22:13:19 UTC, has passed");
    CHECK(budget.limit_passed({}, {.seconds = 1300}, kStart + 7200) ==
          "budget.date: the date, 2023-11-15 00:13:20 UTC, has passed");
  }
}

TEST_CASE("a budget warns once at each share, and at the highest only when several are passed") {
  Budget budget({.device_hours = 10, .money = 100, .warn_at = {0.5, 0.8}}, "USD", kStart);
  CHECK(budget.warnings(hours_and_money(4.9, 0), 0).empty());
  const auto half = budget.warnings(hours_and_money(5, 0), 0);
  REQUIRE(half.size() == 1);
  CHECK(half[0] == "budget.device_hours: 5.00 device-h of 10.00 device-h are spent (50 %)");
  CHECK(budget.warnings(hours_and_money(6, 0), 0).empty());
  const auto both = budget.warnings(hours_and_money(9, 90), 0);
  REQUIRE(both.size() == 2);
  CHECK(both[1] == "budget.money: 90.00 USD of 100.00 USD are spent (90 %)");
  CHECK(budget.warnings(hours_and_money(9.9, 99), 0).empty());
}

TEST_CASE("a limit of what is not known is refused") {
  const Spending unknown{.money = std::nullopt, .joules = std::nullopt};
  const auto refusal = [&](const BudgetConfig& config) {
    ExitCode code{};
    const std::string text =
        error_of([&] { Budget(config, "USD", kStart).check_measurable(unknown); }, &code);
    if (!text.empty()) CHECK(code == ExitCode::kUsage);
    return text;
  };
  CHECK(refusal({.device_hours = 1}).empty());
  CHECK(refusal({.money = 1}).find("budget.money cannot be watched") == 0);
  CHECK(refusal({.energy_kwh = 1}).find("budget.energy_kwh cannot be watched") == 0);
}

TEST_CASE("spending adds up, and what is unknown stays unknown") {
  const Spending a{.device_seconds = 1, .seconds = 2, .money = 3.0, .joules = std::nullopt};
  const Spending b{.device_seconds = 10, .seconds = 20, .money = 30.0, .joules = 40.0};
  const Spending sum = a + b;
  CHECK(sum.device_seconds == 11);
  CHECK(sum.seconds == 22);
  CHECK(sum.money == 33.0);
  CHECK_FALSE(sum.joules);
  CHECK(spending_of({}).money == 0.0);  // no launch has spent nothing
  CostSum unpriced;
  unpriced.launches = 1, unpriced.device_seconds = unpriced.unpriced_device_seconds = 5;
  CHECK_FALSE(spending_of(unpriced).money);
}

}  // namespace jevons::test
