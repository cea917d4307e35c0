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
#include "data/token_file.h"
#include "data/token_writer.h"
#include "data/tokenizer.h"
#include "kernels/core/error.h"
#include "kernels/core/log.h"
#include "kernels/core/output_path.h"

namespace jevons {
namespace {

namespace fs = std::filesystem;

// Encodes documents into a writer and shows how far it is.
class TokenSink final : public DocumentSink {
 public:
  TokenSink(const Tokenizer& tokenizer, TokenWriter& writer, ProgressLine& progress)
      : separator_(*tokenizer.separator()),
        encoder_(tokenizer.encoder(Specials::kAreText)),
        writer_(writer),
        progress_(progress) {}

  void text(std::string_view piece) override {
    ids_.clear();
    encoder_->encode(piece, TextPart::kBeginning, ids_);
    writer_.append(ids_);
    document_tokens_ += ids_.size();
    text_bytes_ += piece.size();
    if (piece.find('\0') == std::string_view::npos) return;
    nuls_ += static_cast<std::uint64_t>(std::count(piece.begin(), piece.end(), '\0'));
  }
  // One without tokens is none.
  void end_document() override {
    if (document_tokens_ == 0) return;
    writer_.append({&separator_, 1});
    writer_.end_document();
    document_tokens_ = 0;
  }
  void consumed(std::uint64_t file_bytes) override { progress_.update(files_before_ + file_bytes); }
  void end_file(std::uint64_t file_bytes) { files_before_ += file_bytes; }

  std::uint64_t text_bytes() const { return text_bytes_; }
  std::uint64_t nuls() const { return nuls_; }
  std::uint64_t input_bytes() const { return files_before_; }

 private:
  std::int32_t separator_;
  std::unique_ptr<Encoder> encoder_;
  TokenWriter& writer_;
  ProgressLine& progress_;
  std::vector<std::int32_t> ids_;
  std::size_t document_tokens_ = 0;
  std::uint64_t text_bytes_ = 0, nuls_ = 0;
  std::uint64_t files_before_ = 0;  // bytes of the files that are done
};

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

}  // namespace

PrepareSummary prepare_tokens(const PrepareOptions& options) {
  if (options.inputs.empty()) fail(ExitCode::kUsage, "no input file is given");
  if (options.output.empty()) fail(ExitCode::kUsage, "no output prefix is given");
  const std::unique_ptr<Tokenizer> tokenizer = load_tokenizer(options.tokenizer);
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
  TokenSink sink(*tokenizer, writer, progress);
  for (const std::string& path : paths) read_input(path, options, summary, sink);
  if (writer.num_documents() == 0) {
    fail(ExitCode::kData, "the input holds no text{}",
         summary.bad_records == 0 ? ""
                                  : fmt::format("; {} records were skipped, the first: {}",
                                                summary.bad_records, summary.first_bad[0]));
  }
  writer.commit();

  summary.documents = writer.num_documents();
  summary.tokens = writer.num_tokens();
  summary.input_bytes = sink.input_bytes();
  summary.text_bytes = sink.text_bytes();
  summary.dropped_nuls = sink.nuls();
  summary.seconds = progress.seconds();
  return summary;
}

}  // namespace jevons
