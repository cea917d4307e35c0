#include "trainer/config/budget_section.h"

#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "trainer/config/dates.h"
#include "trainer/config/option.h"
#include "trainer/config/scalars.h"

namespace jevons {
namespace {

constexpr Choice<BudgetScope> kScopes[] = {{BudgetScope::kRun, "run"},
                                           {BudgetScope::kDirectory, "directory"}};

std::optional<double> read_date(const std::string& text) {
  return text.empty() ? std::optional(0.0) : parse_moment(text);
}

std::string write_date(double time) {
  return time > 0 ? format_moment(time) : "";
}

// "0.5 0.8"; nothing unless every word is a number above 0 and at most 1.
std::optional<std::vector<double>> read_shares(const std::string& text) {
  std::vector<double> shares;
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    const Parsed<double> share = parse_number(word);
    if (!share.problem.empty() || share.value <= 0 || share.value > 1) return std::nullopt;
    shares.push_back(share.value);
  }
  return shares;
}

std::string write_shares(const std::vector<double>& shares) {
  std::vector<std::string> words;
  for (const double share : shares) words.push_back(number_text(share));
  return fmt::format("{}", fmt::join(words, " "));
}

}  // namespace

void carry(Bridge b, BudgetConfig& budget) {
  b("device_hours", budget.device_hours);
  b("money", budget.money);
  b("energy_kwh", budget.energy_kwh);
  b("scope", budget.scope, kScopes);
  b.text("date", budget.end_time, read_date, write_date,
         " is not a moment as 2026-05-01 or 2026-05-01T18:30");
  b.text("warn_at", budget.warn_at, read_shares, write_shares,
         ": expected shares between 0 and 1 with spaces between them");
}

}  // namespace jevons
