// jevons cost.
#include <fmt/core.h>

#include "kernels/core/error.h"
#include "kernels/core/log.h"
#include "trainer/commands/arguments.h"
#include "trainer/commands/commands.h"
#include "trainer/cost/cost_report.h"
#include "trainer/cost/database.h"
#include "trainer/cost/launch_table.h"
#include "trainer/cost/programme.h"

namespace jevons {
namespace {

struct CostOptions {
  std::vector<std::string> paths;  // run directories, searched recursively for ledgers
  std::string project;             // only runs of this cost.project; empty: all
  bool json = false;
  std::string csv;     // file for one line per launch; empty: none
  std::string sqlite;  // file for a database; empty: none
};

int run_cost(const CostOptions& options) {
  const Programme programme = account_programme(find_ledgers(options.paths), options.project);
  require_launches(programme, options.project);
  for (const std::string& ledger : programme.unusable) log_warning("{}", ledger);
  if (!options.csv.empty()) write_csv(programme, options.csv);
  if (!options.sqlite.empty()) write_database(programme, options.sqlite);
  fmt::print("{}", options.json ? programme_json(programme) : describe_programme(programme));
  return static_cast<int>(ExitCode::kOk);
}

}  // namespace

void add_cost(CLI::App& app, ChosenCommand& chosen) {
  CLI::App* command =
      app.add_subcommand("cost", "Device-hours and money of runs, restarts and failures included");
  auto options = std::make_shared<CostOptions>();
  command->add_option("paths", options->paths, "Run directories, or directories above them")
      ->required()
      ->type_name("PATH");
  command->add_option("--project", options->project, "Only runs of this cost.project [all]")
      ->type_name("NAME");
  command->add_flag("--json", options->json, "As JSON");
  command->add_option("--csv", options->csv, "Also write one line per launch to this file")
      ->check(written_out())
      ->type_name("FILE");
  command
      ->add_option("--sqlite", options->sqlite, "Also write an SQLite database, made anew from the ledgers")
      ->check(written_out())
      ->type_name("FILE");
  command->callback([options, &chosen] { chosen.run = [options](Job&) { return run_cost(*options); }; });
}

}  // namespace jevons
