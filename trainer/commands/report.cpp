// jevons report.
#include <fmt/core.h>

#include "kernels/core/error.h"
#include "trainer/commands/arguments.h"
#include "trainer/commands/commands.h"
#include "trainer/report/html_report.h"

namespace jevons {
namespace {

struct ReportOptions {
  std::vector<std::string> runs;  // run directories; several lie over each other on one page
  std::string output;             // empty: report.html in the directory of the run, or here for several
};

int run_report(const ReportOptions& options) {
  const bool single = options.runs.size() == 1;
  const std::string path = !options.output.empty() ? options.output
                           : single                ? options.runs.front() + "/report.html"
                                                   : "report.html";
  write_html_report(options.runs, path);
  fmt::print("{}\n", path);
  return static_cast<int>(ExitCode::kOk);
}

}  // namespace

void add_report(CLI::App& app, ChosenCommand& chosen) {
  CLI::App* command = app.add_subcommand(
      "report", "One self-contained HTML page about a run; several runs lie over each other");
  auto options = std::make_shared<ReportOptions>();
  command->add_option("runs", options->runs, "Run directories")->required()->type_name("RUN");
  command
      ->add_option("-o,--output", options->output,
                   "File to write [report.html in the run's directory; for several runs: here]")
      ->check(written_out())
      ->type_name("FILE");
  command->callback([options, &chosen] { chosen.run = [options](Job&) { return run_report(*options); }; });
}

}  // namespace jevons
