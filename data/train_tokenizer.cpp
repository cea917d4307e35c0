#include "data/train_tokenizer.h"

#include <algorithm>
#include <filesystem>
#include <set>

#include "data/atomic_file.h"
#include "data/glob.h"
#include "data/input.h"
#include "data/input_format.h"
#include "data/piece_counter.h"
#include "data/tokenizer/bpe_tokenizer.h"
#include "data/tokenizer/patterns.h"
#include "data/tokenizer/unicode.h"
#include "data/tokenizer/write_json.h"
#include "kernels/core/error.h"
#include "kernels/core/output_path.h"

namespace jevons {
namespace {

void check(const TrainTokenizerOptions& options) {
  if (options.inputs.empty()) fail(ExitCode::kUsage, "no input file is given");
  if (!patterns_named(options.pre_tokenizer))
    fail(ExitCode::kUsage, "there is no pre-tokenizer '{}'", options.pre_tokenizer);
  const std::set<std::string> specials(options.specials.begin(), options.specials.end());
  if (specials.size() != options.specials.size() || specials.contains(""))
    fail(ExitCode::kUsage, "a special token is empty or there twice");
  const auto least = static_cast<std::int64_t>(256 + specials.size());
  if (options.vocab_size < least)
    fail(ExitCode::kUsage, "a vocabulary of {}: the 256 bytes and {} special tokens are {}",
         options.vocab_size, specials.size(), least);
}

// The tokens of bytes only: says where text may be cut.
BpeTokenizer tokenizer_of_bytes(const std::vector<std::string>& patterns) {
  TokenizerParts parts = parts_of_bytes();
  parts.splitter = Splitter(split_stages(patterns));
  return BpeTokenizer(std::move(parts));
}

void read_input(const std::string& path, const TrainTokenizerOptions& options, PieceCounter& counter) {
  Input input(path);
  const InputFormat format = recognise_format(
      {input.name(), input.text_name(), input.next(kHeadBytes).substr(0, kHeadBytes)}, InputFormat::kAuto);
  const JsonRecords records{.key = options.json_key, .on_bad_record = [](const std::string& problem) {
                              fail(ExitCode::kData, "{}", problem);
                            }};
  if (format == InputFormat::kJsonl) {
    read_jsonl(input, records, counter);
  } else if (format == InputFormat::kJson) {
    read_json(input, records, counter);
  } else {
    read_text(input, std::nullopt, counter);
  }
  counter.end_file(input.file_bytes());
}

std::vector<std::string> paths_of(const std::vector<std::string>& inputs) {
  std::vector<std::string> paths;
  for (const std::string& input : inputs) {
    if (!is_pattern(input) || std::filesystem::exists(input)) {
      paths.push_back(input);
      continue;
    }
    const std::vector<std::string> matches = paths_matching(input);
    if (matches.empty()) fail(ExitCode::kData, "no file matches '{}'", input);
    paths.insert(paths.end(), matches.begin(), matches.end());
  }
  return paths;
}

// Bytes and joined tokens, with the specials before or behind them.
TokenizerParts parts_of(const TrainedBpe& bpe, const TrainTokenizerOptions& options) {
  TokenizerParts parts;
  parts.name = options.output;
  parts.splitter = Splitter(split_stages(*patterns_named(options.pre_tokenizer)));
  const auto put_specials = [&] {
    for (const std::string& special : options.specials) {
      const auto id = static_cast<std::int32_t>(parts.pieces.size());
      parts.added.push_back({.id = id, .content = special, .special = true});
      parts.pieces.push_back(special);
    }
  };
  const bool first = options.specials_place == TrainTokenizerOptions::Place::kFirst;
  if (first) put_specials();
  const auto first_token = static_cast<std::int32_t>(parts.pieces.size());
  parts.pieces.insert(parts.pieces.end(), bpe.tokens.begin(), bpe.tokens.end());
  if (!first) put_specials();
  for (const Merge& merge : bpe.merges) {
    const auto rank = static_cast<std::int32_t>(parts.model.merges.size());
    parts.model.merges.push_back(
        {merge.left + first_token, merge.right + first_token, merge.result + first_token, rank});
  }
  return parts;
}

bool is_tokenizer_json(const std::string& path) {
  return file_head(path, 4096).find("\"added_tokens\"") != std::string::npos;
}

}  // namespace

TrainTokenizerSummary train_tokenizer(const TrainTokenizerOptions& options) {
  check(options);
  const std::vector<std::string> paths = paths_of(options.inputs);
  check_output({options.output, "a tokenizer.json", is_tokenizer_json}, paths);
  const std::vector<std::string> patterns = *patterns_named(options.pre_tokenizer);
  const BpeTokenizer cutter = tokenizer_of_bytes(patterns);
  const Splitter splitter(split_stages(patterns));
  ProgressLine progress(std::nullopt);
  PieceCounter counter(splitter, cutter, options.threads, progress);
  for (const std::string& path : paths) read_input(path, options, counter);
  const PieceCounts pieces = counter.finish();
  if (pieces.empty()) fail(ExitCode::kData, "the input holds no text");

  TrainingGoal goal{.tokens = options.vocab_size - std::ssize(options.specials),
                    .min_frequency = options.min_frequency,
                    .never = {}};
  for (const std::string& special : options.specials) {
    if (auto bytes = bytes_of_alphabet(special)) goal.never.push_back(std::move(*bytes));
  }
  const TrainedBpe bpe = train_bpe(pieces, goal);
  const std::string text = format_tokenizer_json(parts_of(bpe, options));
  AtomicFile file(options.output);
  file.write(std::as_bytes(std::span(text)));
  file.commit();
  return {.vocab_size = std::ssize(bpe.tokens) + std::ssize(options.specials),
          .pieces = std::ssize(pieces),
          .text_bytes = bpe.bytes,
          .tokens = bpe.ids,
          .seconds = progress.seconds()};
}

}  // namespace jevons
