// jevons cost.
#include <fmt/core.h>

#include "kernels/core/error.h"
#include "kernels/core/log.h"
#include "trainer/commands/commands.h"
#include "trainer/cost/cost_report.h"
#include "trainer/cost/database.h"
#include "trainer/cost/launch_table.h"
#include "trainer/cost/programme.h"

namespace jevons {

int run_cost(const CostOptions& options) {
  const Programme programme = account_programme(find_ledgers(options.paths), options.project);
  require_launches(programme, options.project);
  for (const std::string& ledger : programme.unusable) log_warning("{}", ledger);
  if (!options.csv.empty()) write_csv(programme, options.csv);
  if (!options.sqlite.empty()) write_database(programme, options.sqlite);
  fmt::print("{}", options.json ? programme_json(programme) : describe_programme(programme));
  return static_cast<int>(ExitCode::kOk);
}

}  // namespace jevons
