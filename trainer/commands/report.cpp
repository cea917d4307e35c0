// jevons report.
#include <fmt/core.h>

#include "kernels/core/error.h"
#include "trainer/commands/commands.h"
#include "trainer/report/html_report.h"

namespace jevons {

int run_report(const ReportOptions& options) {
  const bool single = options.runs.size() == 1;
  const std::string path = !options.output.empty() ? options.output
                           : single                ? options.runs.front() + "/report.html"
                                                   : "report.html";
  write_html_report(options.runs, path);
  fmt::print("{}\n", path);
  return static_cast<int>(ExitCode::kOk);
}

}  // namespace jevons
