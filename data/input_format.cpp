#include "data/input_format.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <nlohmann/json.hpp>

#include "kernels/core/error.h"

namespace jevons {
namespace {

using namespace std::string_view_literals;

// Files of other kinds, by bytes that text does not have there.
struct Kind {
  std::size_t offset;
  std::string_view bytes;
  const char* name;
  const char* advice;
};

constexpr const char* kPipe = "decompress it on the way: '... | jevons data prepare -'";
constexpr const char* kUnpack = "unpack it, and give the files in it";
constexpr const char* kConvert = "convert it to text or JSONL";
constexpr const char* kTokens = "it can be trained on as it is";
constexpr std::array kKinds = {
    Kind{0, "\x1f\x8b"sv, "gzip data within compressed data", kPipe},
    Kind{0, "\x28\xb5\x2f\xfd"sv, "Zstandard data within compressed data", kPipe},
    Kind{0, "\xfd\x37zXZ\0"sv, "xz data", kPipe},
    Kind{0, "\x04\x22\x4d\x18"sv, "lz4 data", kPipe},
    Kind{4, "\x31\x41\x59\x26\x53\x59"sv, "bzip2 data", kPipe},
    Kind{0, "PK\3\4"sv, "a zip archive", kUnpack},
    Kind{0, "PK\5\6"sv, "an empty zip archive", kUnpack},
    Kind{0, "7z\xbc\xaf\x27\x1c"sv, "a 7z archive", kUnpack},
    Kind{0, "Rar!\x1a\7"sv, "a rar archive", kUnpack},
    Kind{257, "ustar"sv, "a tar archive", kUnpack},
    Kind{0, "PAR1"sv, "a Parquet file", kConvert},
    Kind{0, "ARROW1\0"sv, "an Arrow file", kConvert},
    Kind{0, "Obj\1"sv, "an Avro file", kConvert},
    Kind{0, "SQLite format 3\0"sv, "an SQLite database", kConvert},
    Kind{0, "\x89HDF\r\n"sv, "an HDF5 file", kConvert},
    Kind{0, "\x93NUMPY"sv, "a NumPy array", kConvert},
    Kind{0, "%PDF-"sv, "a PDF document", kConvert},
    Kind{0, "\x7f\x45LF"sv, "a program", "give text"},
    Kind{0, "\x89PNG\r\n"sv, "a picture", "give text"},
    Kind{0, "\xff\xd8\xff"sv, "a picture", "give text"},
    Kind{0, "\xff\xfe"sv, "UTF-16 text", "convert it: iconv -f UTF-16 -t UTF-8"},
    Kind{0, "\xfe\xff"sv, "UTF-16 text", "convert it: iconv -f UTF-16 -t UTF-8"},
    Kind{0, "MMIDIDX\0\0"sv, "the index of a token file", kTokens},
    Kind{0, "\x88\xd8\x34\1"sv, "an llm.c token file", kTokens},
    Kind{0, "\xa1\xd9\x34\1"sv, "an llm.c token file", kTokens},
};

constexpr std::string_view kSpace = " \t\r\n";

std::string_view without_mark(std::string_view text) {
  constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  return text;
}

std::string_view from_first_word(std::string_view text) {
  text = without_mark(text);
  text.remove_prefix(std::min(text.find_first_not_of(kSpace), text.size()));
  return text;
}

// An object with a key, or a list of objects: {" or [{.
bool begins_as_json(std::string_view head) {
  const std::string_view text = from_first_word(head);
  if (text.empty() || (text[0] != '{' && text[0] != '[')) return false;
  const std::string_view inner = from_first_word(text.substr(1));
  return !inner.empty() && inner[0] == (text[0] == '{' ? '"' : '{');
}

// Objects one per line, as far as the first line tells; else kJson, which reads any spacing.
InputFormat kind_of_json(std::string_view head) {
  const std::string_view text = from_first_word(head);
  const std::string_view line = text.substr(0, text.find('\n'));
  return text.starts_with('{') && nlohmann::json::accept(line) ? InputFormat::kJsonl : InputFormat::kJson;
}

bool named_any(const std::string& name, std::initializer_list<std::string_view> endings) {
  return std::any_of(endings.begin(), endings.end(),
                     [&](std::string_view ending) { return ends_with_any_case(name, ending); });
}

void refuse_other_kinds(const InputSample& input) {
  for (const Kind& kind : kKinds) {
    if (input.head.size() < kind.offset || !input.head.substr(kind.offset).starts_with(kind.bytes)) continue;
    fail(ExitCode::kData, "{}: this is {}, which is not read; {}", input.name, kind.name, kind.advice);
  }
}

}  // namespace

bool ends_with_any_case(std::string_view text, std::string_view ending) {
  if (text.size() < ending.size()) return false;
  return std::equal(ending.begin(), ending.end(), text.end() - static_cast<std::ptrdiff_t>(ending.size()),
                    [](unsigned char a, unsigned char b) { return std::tolower(a) == std::tolower(b); });
}

// Text of 1 NUL in 20 bytes is none that anyone has seen; token files, numbers and programs have more.
bool too_many_nuls(std::uint64_t nuls, std::uint64_t bytes) {
  constexpr std::uint64_t kFew = 16, kOneIn = 20;
  return nuls >= kFew && nuls != bytes && nuls > bytes / kOneIn;
}

void refuse_binary(const std::string& name, std::uint64_t nuls, std::uint64_t bytes) {
  fail(ExitCode::kData,
       "{}: not text: {} of {} bytes are NUL; if it is meant as text all the same, say --format text, and "
       "they are dropped",
       name, nuls, bytes);
}

InputFormat recognise_format(const InputSample& input, InputFormat wanted) {
  refuse_other_kinds(input);
  if (wanted != InputFormat::kAuto) return wanted;
  if (named_any(input.text_name, {".jsonl", ".ndjson"})) return InputFormat::kJsonl;
  if (ends_with_any_case(input.text_name, ".json")) return kind_of_json(input.head);
  if (begins_as_json(input.head)) {
    // Without such an ending the name says nothing, and the content decides.
    if (!named_any(input.text_name, {".txt", ".text", ".md"})) return kind_of_json(input.head);
    fail(ExitCode::kData,
         "{}: the name says text, but it begins as JSON; say --format jsonl (an object per line) or --format "
         "json to take the text out of it, or --format text if the JSON itself is the text",
         input.name);
  }
  const auto nuls = static_cast<std::uint64_t>(std::count(input.head.begin(), input.head.end(), '\0'));
  if (too_many_nuls(nuls, input.head.size())) refuse_binary(input.name, nuls, input.head.size());
  return InputFormat::kText;
}

}  // namespace jevons
