// jevons data prepare, jevons data inspect.
#include <fmt/core.h>

#include <map>

#include "data/inspect.h"
#include "data/prepare.h"
#include "kernels/core/error.h"
#include "trainer/commands/commands.h"
#include "trainer/io/format.h"

namespace jevons {

int run_data_prepare(const DataPrepareOptions& options) {
  const std::map<std::string, InputFormat> formats = {
      {"auto", InputFormat::kAuto}, {"text", InputFormat::kText}, {"jsonl", InputFormat::kJsonl}};
  PrepareOptions prepare;
  prepare.inputs = options.inputs;
  prepare.output = options.output;
  prepare.format = formats.at(options.format);
  prepare.json_key = options.json_key;
  if (!options.separator_line.empty()) prepare.separator_line = options.separator_line;
  prepare.tokenizer = options.tokenizer;
  const PrepareSummary summary = prepare_tokens(prepare);
  fmt::print("{}, {}: {} documents, {} tokens from {} in {} ({}/s)\n", summary.bin_path, summary.idx_path,
             format_integer(summary.documents), format_integer(summary.tokens),
             format_bytes(static_cast<double>(summary.input_bytes)), format_duration(summary.seconds),
             format_bytes(static_cast<double>(summary.input_bytes) / summary.seconds));
  return static_cast<int>(ExitCode::kOk);
}

int run_data_inspect(const DataInspectOptions& options) {
  fmt::print("{}", to_text(inspect_tokens(options.path, options.show_tokens)));
  return static_cast<int>(ExitCode::kOk);
}

}  // namespace jevons
