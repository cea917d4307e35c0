// jevons cost.
#include <fmt/core.h>

#include "kernels/core/error.h"
#include "trainer/commands/commands.h"
#include "trainer/cost/cost_report.h"
#include "trainer/cost/programme.h"

namespace jevons {

int run_cost(const CostOptions& options) {
  const Programme programme = account_programme(find_ledgers(options.paths), options.project);
  fmt::print("{}", options.json ? programme_json(programme) : describe_programme(programme));
  return static_cast<int>(ExitCode::kOk);
}

}  // namespace jevons
