// jevons data prepare, jevons data inspect.
#include <fmt/core.h>

#include <map>

#include "data/inspect.h"
#include "data/prepare.h"
#include "kernels/core/error.h"
#include "kernels/core/log.h"
#include "trainer/commands/commands.h"
#include "trainer/io/format.h"

namespace jevons {

namespace {

// What of the input is not in the tokens.
void report_losses(const PrepareSummary& summary) {
  if (summary.dropped_nuls > 0) {
    log_warning("{} NUL bytes of the text were dropped: that byte separates documents",
                format_integer(static_cast<std::int64_t>(summary.dropped_nuls)));
  }
  if (summary.bad_records == 0) return;
  for (const std::string& problem : summary.first_bad) log_warning("skipped: {}", problem);
  log_warning("{} bad records were skipped", format_integer(summary.bad_records));
}

}  // namespace

int run_data_prepare(const DataPrepareOptions& options) {
  const std::map<std::string, InputFormat> formats = {{"auto", InputFormat::kAuto},
                                                      {"text", InputFormat::kText},
                                                      {"jsonl", InputFormat::kJsonl},
                                                      {"json", InputFormat::kJson}};
  PrepareOptions prepare;
  prepare.inputs = options.inputs;
  prepare.output = options.output;
  prepare.format = formats.at(options.format);
  prepare.json_key = options.json_key;
  if (!options.separator_line.empty()) prepare.separator_line = options.separator_line;
  prepare.tokenizer = options.tokenizer;
  prepare.skip_bad_lines = options.skip_bad_lines;
  const PrepareSummary summary = prepare_tokens(prepare);
  report_losses(summary);
  const auto bytes = static_cast<double>(summary.input_bytes);
  fmt::print("{}, {}: {} documents, {} tokens from {}{} in {} ({}/s)\n", summary.bin_path, summary.idx_path,
             format_integer(summary.documents), format_integer(summary.tokens), format_bytes(bytes),
             summary.files == 1 ? "" : fmt::format(" in {} files", format_integer(summary.files)),
             format_duration(summary.seconds), format_bytes(bytes / summary.seconds));
  return static_cast<int>(ExitCode::kOk);
}

int run_data_inspect(const DataInspectOptions& options) {
  fmt::print("{}", to_text(inspect_tokens(options.path, options.show_tokens)));
  return static_cast<int>(ExitCode::kOk);
}

}  // namespace jevons
