// jevons data prepare, jevons data inspect.
#include <fmt/core.h>

#include <map>

#include "data/inspect.h"
#include "data/prepare.h"
#include "kernels/core/error.h"
#include "kernels/core/log.h"
#include "trainer/commands/arguments.h"
#include "trainer/commands/commands.h"
#include "trainer/io/format.h"

namespace jevons {
namespace {

struct DataPrepareOptions {
  std::vector<std::string>
      inputs;          // text, JSONL or JSON files, compressed or not; patterns; - for standard input
  std::string output;  // prefix of the .bin/.idx pair
  std::string format = "auto";    // text, jsonl, json; auto: by name and content
  std::string json_key = "text";  // JSON: the field that holds the text
  std::string separator_line;     // text: a line like this ends a document; empty: one document per file
  std::string tokenizer = "byte";
  bool skip_bad_lines = false;  // JSON records that give no text are counted and left out
};

struct DataInspectOptions {
  std::string path;              // prefix of a .bin/.idx pair, or an llm.c .bin
  std::int64_t show_tokens = 0;  // print this many of the first tokens
};

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

void add_data_prepare(CLI::App& data, ChosenCommand& chosen) {
  CLI::App* command = data.add_subcommand("prepare", "Turn text or JSON into a token file (.bin and .idx)");
  auto options = std::make_shared<DataPrepareOptions>();
  command
      ->add_option(
          "inputs", options->inputs,
          "Text, JSONL or JSON, plain, .gz or .zst; read in this order. A quoted pattern takes the files "
          "that it matches, - standard input")
      ->required()
      ->type_name("FILE");
  command->add_option("-o,--output", options->output, "Prefix of the .bin/.idx pair")
      ->required()
      ->check(written_out())
      ->type_name("PREFIX");
  command
      ->add_option(
          "--format", options->format,
          "auto: by name and content; text; jsonl: an object per line; json: an array of objects, or "
          "objects one after another")
      ->capture_default_str()
      ->check(CLI::IsMember({"auto", "text", "jsonl", "json"}));
  command->add_option("--json-key", options->json_key, "JSON: the field that holds the text")
      ->capture_default_str();
  command->add_flag(
      "--skip-bad-lines", options->skip_bad_lines,
      "JSON: leave out lines that give no text, and say how many and which, instead of stopping");
  command->add_option("--separator-line", options->separator_line,
                      "Text: a line like this ends a document [one document per file]");
  command->add_option("--tokenizer", options->tokenizer, "How text becomes tokens")
      ->capture_default_str()
      ->check(CLI::IsMember({"byte"}));
  command->callback(
      [options, &chosen] { chosen.run = [options](Job&) { return run_data_prepare(*options); }; });
}

}  // namespace

void add_data(CLI::App& app, ChosenCommand& chosen) {
  CLI::App* data = app.add_subcommand("data", "Token files: make them, look into them");
  add_data_prepare(*data, chosen);
  CLI::App* command = data->add_subcommand("inspect", "What a token file holds");
  auto options = std::make_shared<DataInspectOptions>();
  command->add_option("path", options->path, "Prefix of a .bin/.idx pair, or an llm.c .bin")
      ->required()
      ->type_name("PATH");
  command->add_option("--tokens", options->show_tokens, "Print so many of the first tokens")
      ->capture_default_str()
      ->check(at_least(0));
  command->callback(
      [options, &chosen] { chosen.run = [options](Job&) { return run_data_inspect(*options); }; });
}

}  // namespace jevons
