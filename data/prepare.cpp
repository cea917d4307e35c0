#include "data/prepare.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>
#include <span>
#include <string_view>

#include "data/document_reader.h"
#include "data/glob.h"
#include "data/input.h"
#include "data/progress.h"
#include "data/token_facts.h"
#include "data/token_file.h"
#include "data/token_sink.h"
#include "data/tokenizer.h"
#include "kernels/core/error.h"
#include "kernels/core/log.h"
#include "kernels/core/output_path.h"

namespace jevons {
namespace {

namespace fs = std::filesystem;

// Two names of one file are one file.
struct FileIdentity {
  std::optional<std::uint64_t> size;  // none for pipes and devices
  dev_t device = 0;
  ino_t inode = 0;
  bool operator==(const FileIdentity& other) const { return device == other.device && inode == other.inode; }
};

FileIdentity look_at(const std::string& path) {
  struct stat info {};
  const bool standard = path == kStandardInput;
  if ((standard ? fstat(STDIN_FILENO, &info) : stat(path.c_str(), &info)) != 0)
    fail(ExitCode::kData, "cannot open '{}': {}", standard ? path : fs::absolute(path).string(),
         std::strerror(errno));
  if (S_ISDIR(info.st_mode))
    fail(ExitCode::kData, "'{}' is a directory; a pattern takes the files in it: '{}'", path,
         (fs::path(path) / "*").string());
  FileIdentity identity{.size = {}, .device = info.st_dev, .inode = info.st_ino};
  if (S_ISREG(info.st_mode)) identity.size = static_cast<std::uint64_t>(info.st_size);
  return identity;
}

std::vector<std::string> expanded(const std::vector<std::string>& inputs) {
  std::vector<std::string> paths;
  for (const std::string& input : inputs) {
    if (!is_pattern(input) || fs::exists(input)) {
      paths.push_back(input);
      continue;
    }
    const std::vector<std::string> matches = paths_matching(input);
    if (matches.empty()) fail(ExitCode::kData, "no file matches '{}'", fs::absolute(input).string());
    paths.insert(paths.end(), matches.begin(), matches.end());
  }
  return paths;
}

// The bytes of all inputs, if they are known. A missing one is an error before the work starts.
std::optional<std::uint64_t> total_size(const std::vector<std::string>& paths) {
  std::optional<std::uint64_t> total = 0;
  std::vector<FileIdentity> seen;
  for (const std::string& path : paths) {
    const FileIdentity identity = look_at(path);
    if (identity.size && std::find(seen.begin(), seen.end(), identity) != seen.end())
      log_warning("{}: is given twice, and read twice", path);
    seen.push_back(identity);
    total = total && identity.size ? std::optional(*total + *identity.size) : std::nullopt;
  }
  if (std::count(paths.begin(), paths.end(), kStandardInput) > 1)
    fail(ExitCode::kUsage, "standard input (-) can be read only once");
  return total;
}

bool is_whole_pair(const std::string& path) {
  try {
    return TokenFile(path).index() != nullptr;
  } catch (const Error&) {
    return false;
  }
}

// Nothing is written over an input, nor over what is not a pair of token files.
void check_prefix(const std::string& prefix, std::vector<std::string> inputs) {
  const std::string last = fs::path(prefix).filename().string();
  if (last.empty() || last == "." || last == "..") {
    fail(ExitCode::kUsage,
         "output '{0}' is a directory; give a prefix in it, as {1}, which makes {1}.bin and {1}.idx", prefix,
         (fs::path(prefix) / "corpus").string());
  }
  for (const std::string_view suffix : {".bin", ".idx"}) {
    if (!prefix.ends_with(suffix)) continue;
    fail(ExitCode::kUsage,
         "output '{0}' is the prefix of two files; give {1}, which makes {1}.bin and {1}.idx", prefix,
         prefix.substr(0, prefix.size() - suffix.size()));
  }
  std::replace(inputs.begin(), inputs.end(), std::string(kStandardInput), std::string("/dev/stdin"));
  for (const char* suffix : {".bin", ".idx"}) {
    check_output({prefix + suffix, "one of a pair of token files", is_whole_pair}, inputs);
  }
  check_output({facts_path(prefix), "what token files are described by", is_facts_file}, inputs);
}

InputFormat format_of(Input& input, InputFormat wanted) {
  return recognise_format({input.name(), input.text_name(), input.next(kHeadBytes).substr(0, kHeadBytes)},
                          wanted);
}

// What no reader could take is known before the work starts, and so is an option that no input can use; pipes
// can be looked at only once.
void check_formats(const std::vector<std::string>& paths, const PrepareOptions& options) {
  bool any_text = false, any_json = false;
  for (const std::string& path : paths) {
    if (!look_at(path).size || path == kStandardInput) {
      any_text = any_json = true;
      continue;
    }
    if (options.format == InputFormat::kAuto && is_whole_pair(path))
      fail(ExitCode::kData, "{}: this is one of a pair of token files; it can be trained on as it is", path);
    Input input(path);
    (format_of(input, options.format) == InputFormat::kText ? any_text : any_json) = true;
  }
  if (options.separator_line && !any_text)
    fail(ExitCode::kUsage, "a separator line has no effect: no input is text");
  if (options.json_key != PrepareOptions().json_key && !any_json)
    fail(ExitCode::kUsage, "the JSON key \"{}\" has no effect: no input is JSON", options.json_key);
}

void read_input(const std::string& path, const PrepareOptions& options, PrepareSummary& summary,
                TokenSink& sink) {
  Input input(path);
  const JsonRecords records{.key = options.json_key, .on_bad_record = [&](const std::string& problem) {
                              constexpr std::size_t kShown = 5;
                              if (!options.skip_bad_lines) fail(ExitCode::kData, "{}", problem);
                              ++summary.bad_records;
                              if (summary.first_bad.size() < kShown) summary.first_bad.push_back(problem);
                            }};
  const std::uint64_t nuls = sink.nuls(), bytes = sink.text_bytes();
  switch (format_of(input, options.format)) {
    case InputFormat::kJsonl:
      read_jsonl(input, records, sink);
      break;
    case InputFormat::kJson:
      read_json(input, records, sink);
      break;
    default:
      read_text(input, options.separator_line, sink);
      if (options.format == InputFormat::kAuto &&
          too_many_nuls(sink.nuls() - nuls, sink.text_bytes() - bytes))
        refuse_binary(path, sink.nuls() - nuls, sink.text_bytes() - bytes);
  }
  sink.end_file(input.file_bytes());
}

// The id that ends a document: the token named, or the one that the tokenizer's files name.
std::int32_t separator_of(const Tokenizer& tokenizer, const std::string& name) {
  if (name.empty()) {
    if (tokenizer.separator()) return *tokenizer.separator();
    fail(ExitCode::kUsage,
         "{}: no file says which token ends a document: give one of its tokens as separator",
         tokenizer.name());
  }
  std::vector<std::int32_t> ids;
  tokenizer.encoder(Specials::kAreTokens)->encode(name, TextPart::kBeginning, ids);
  if (ids.size() != 1)
    fail(ExitCode::kUsage, "the separator \"{}\" is not one token of {} but {}", name, tokenizer.name(),
         ids.size());
  return ids[0];
}

std::string absolute_name(const Tokenizer& tokenizer) {
  return tokenizer.name() == kByteTokenizer ? tokenizer.name() : fs::absolute(tokenizer.name()).string();
}

// The old facts go before the tokens do, the new ones come after them: they never stand beside tokens of
// others.
void commit(TokenWriter& writer, const std::string& prefix, const TokenFacts& facts) {
  unlink(facts_path(prefix).c_str());
  writer.commit();
  write_facts(prefix, facts);
}

}  // namespace

PrepareSummary prepare_tokens(const PrepareOptions& options) {
  if (options.inputs.empty()) fail(ExitCode::kUsage, "no input file is given");
  if (options.output.empty()) fail(ExitCode::kUsage, "no output prefix is given");
  const std::unique_ptr<Tokenizer> tokenizer = load_tokenizer(options.tokenizer);
  const std::int32_t separator = separator_of(*tokenizer, options.separator);
  const std::vector<std::string> paths = expanded(options.inputs);
  const std::optional<std::uint64_t> total = total_size(paths);
  check_prefix(options.output, paths);
  check_formats(paths, options);

  PrepareSummary summary;
  summary.bin_path = options.output + ".bin";
  summary.idx_path = options.output + ".idx";
  summary.dtype = token_dtype_for(tokenizer->vocab_size());
  summary.files = std::ssize(paths);
  ProgressLine progress(total);
  TokenWriter writer(options.output, summary.dtype);
  TokenSink sink(*tokenizer, {separator, options.specials, options.threads}, writer, progress);
  for (const std::string& path : paths) read_input(path, options, summary, sink);
  sink.finish();
  if (writer.num_documents() == 0) {
    fail(ExitCode::kData, "the input holds no text{}",
         summary.bad_records == 0 ? ""
                                  : fmt::format("; {} records were skipped, the first: {}",
                                                summary.bad_records, summary.first_bad[0]));
  }
  commit(writer, options.output,
         {.tokenizer = absolute_name(*tokenizer),
          .tokenizer_hash = tokenizer->hash(),
          .vocab_size = tokenizer->vocab_size(),
          .separator = separator,
          .text_bytes = sink.text_bytes(),
          .tokens = writer.num_tokens(),
          .documents = writer.num_documents()});

  summary.documents = writer.num_documents();
  summary.tokens = writer.num_tokens();
  summary.input_bytes = sink.input_bytes();
  summary.text_bytes = sink.text_bytes();
  summary.dropped_nuls = tokenizer->name() == kByteTokenizer ? sink.nuls() : 0;
  summary.seconds = progress.seconds();
  return summary;
}

}  // namespace jevons
