// jevons data prepare, jevons data inspect.
#include <fmt/core.h>

#include <map>

#include "data/inspect.h"
#include "data/prepare.h"
#include "data/train_tokenizer.h"
#include "kernels/core/error.h"
#include "kernels/core/log.h"
#include "trainer/commands/arguments.h"
#include "trainer/commands/commands.h"
#include "trainer/io/format.h"
#include "trainer/run/host.h"

namespace jevons {
namespace {

struct DataPrepareOptions {
  std::vector<std::string>
      inputs;          // text, JSONL or JSON files, compressed or not; patterns; - for standard input
  std::string output;  // prefix of the .bin/.idx pair
  std::string format = "auto";    // text, jsonl, json; auto: by name and content
  std::string json_key = "text";  // JSON: the field that holds the text
  std::string separator_line;     // text: a line like this ends a document; empty: one document per file
  std::string tokenizer = kByteTokenizer;
  std::string separator;        // token that ends a document; empty: what the tokenizer's files name
  bool special_tokens = false;  // names of special tokens in documents are these tokens, not text
  int threads = usable_cores();
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
  prepare.separator = options.separator;
  if (options.special_tokens) prepare.specials = Specials::kAreTokens;
  prepare.threads = options.threads;
  prepare.skip_bad_lines = options.skip_bad_lines;
  const PrepareSummary summary = prepare_tokens(prepare);
  report_losses(summary);
  const auto bytes = static_cast<double>(summary.input_bytes);
  fmt::print("{}, {}: {} documents, {} tokens from {}{} in {} ({}/s)\n", summary.bin_path, summary.idx_path,
             format_integer(summary.documents), format_integer(summary.tokens), format_bytes(bytes),
             summary.files == 1 ? "" : fmt::format(" in {} files", format_integer(summary.files)),
             format_duration(summary.seconds), format_bytes(bytes / summary.seconds));
  if (options.tokenizer != kByteTokenizer) {
    const auto text = static_cast<double>(summary.text_bytes);
    fmt::print("{:.3f} bytes of text per token, {} CPU threads, {}/s of text\n",
               text / static_cast<double>(summary.tokens), options.threads,
               format_bytes(text / summary.seconds));
  }
  return static_cast<int>(ExitCode::kOk);
}

int run_data_inspect(const DataInspectOptions& options) {
  fmt::print("{}", to_text(inspect_tokens(options.path, options.show_tokens)));
  return static_cast<int>(ExitCode::kOk);
}

int run_train_tokenizer(const TrainTokenizerOptions& options) {
  const TrainTokenizerSummary summary = train_tokenizer(options);
  if (summary.vocab_size < options.vocab_size)
    log_warning("the text has no more than {} tokens of pairs that occur {} times",
                format_integer(summary.vocab_size), options.min_frequency);
  fmt::print("{}: {} tokens from {} different pieces of {} in {}: {:.3f} bytes of that text per token\n",
             options.output, format_integer(summary.vocab_size), format_integer(summary.pieces),
             format_bytes(static_cast<double>(summary.text_bytes)), format_duration(summary.seconds),
             static_cast<double>(summary.text_bytes) / static_cast<double>(summary.tokens));
  return static_cast<int>(ExitCode::kOk);
}

void add_train_tokenizer(CLI::App& data, ChosenCommand& chosen) {
  CLI::App* command = data.add_subcommand(
      "train-tokenizer",
      "Make a tokenizer.json of text: byte-level byte-pair encoding, as Hugging Face's tokenizers read it");
  auto options = std::make_shared<TrainTokenizerOptions>();
  options->threads = usable_cores();
  command->add_option("inputs", options->inputs, "As of data prepare")->required()->type_name("TEXT");
  command
      ->add_option("--vocab-size", options->vocab_size,
                   "Tokens in all: the 256 bytes, joined ones, special ones")
      ->required()
      ->check(at_least(257));
  command->add_option("-o,--output", options->output, "The file to make")
      ->required()
      ->check(written_out())
      ->type_name("FILE");
  command->add_option("--pre-tokenizer", options->pre_tokenizer, "How text is split before")
      ->capture_default_str()
      ->check(CLI::IsMember({"gpt2", "llama3", "qwen2", "o200k", "deepseek"}));
  command->add_option("--special", options->specials, "Special tokens, in order; the first ends a document")
      ->capture_default_str()
      ->type_name("TOKEN");
  command->add_flag_callback(
      "--specials-first", [options] { options->specials_place = TrainTokenizerOptions::Place::kFirst; },
      "Special tokens have the lowest ids, not the highest");
  command
      ->add_option("--min-frequency", options->min_frequency, "A pair that occurs less often is not joined")
      ->capture_default_str()
      ->check(at_least(1));
  command->add_option("--json-key", options->json_key, "JSON: the field that holds the text")
      ->capture_default_str();
  command
      ->add_option("--threads", options->threads,
                   "CPU threads that count pieces; they change nothing in the file")
      ->capture_default_str()
      ->check(at_least(1));
  command->callback(
      [options, &chosen] { chosen.run = [options](Job&) { return run_train_tokenizer(*options); }; });
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
  command
      ->add_option(
          "--tokenizer", options->tokenizer,
          "How text becomes tokens: byte, or a tokenizer.json, a SentencePiece model, tiktoken ranks, or a "
          "Hugging Face folder")
      ->capture_default_str()
      ->type_name("PATH");
  command
      ->add_option("--separator", options->separator,
                   "The token that ends a document [what the tokenizer's files name]")
      ->type_name("TOKEN");
  command->add_flag("--special-tokens", options->special_tokens,
                    "Names of special tokens in documents are these tokens, not plain text");
  command->add_option("--threads", options->threads, "CPU threads that encode; they change no token")
      ->capture_default_str()
      ->check(at_least(1));
  command->callback(
      [options, &chosen] { chosen.run = [options](Job&) { return run_data_prepare(*options); }; });
}

}  // namespace

void add_data(CLI::App& app, ChosenCommand& chosen) {
  CLI::App* data = app.add_subcommand("data", "Token files: make them, look into them");
  add_data_prepare(*data, chosen);
  add_train_tokenizer(*data, chosen);
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
