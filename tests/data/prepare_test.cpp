#include "data/prepare.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "data/inspect.h"
#include "data/progress.h"
#include "data/token_file.h"
#include "data/tokenizer.h"
#include "tests/data/temp_files.h"

namespace jevons {
namespace {

// The documents of a pair as text, each without its separator.
std::vector<std::string> documents_of(const std::string& prefix) {
  const TokenFile file(prefix);
  std::vector<std::string> documents;
  for (std::int64_t d = 0; d < file.index()->num_documents(); ++d) {
    const std::int64_t begin = file.index()->document_begin(d), end = file.index()->document_begin(d + 1);
    std::vector<std::int32_t> ids(static_cast<std::size_t>(end - begin));
    file.read(begin, ids, 256);
    REQUIRE(!ids.empty());
    CHECK(ids.back() == 0);
    CHECK(std::count(ids.begin(), ids.end(), 0) == 1);
    documents.push_back(ByteTokenizer().decode(ids));
  }
  return documents;
}

using Documents = std::vector<std::string>;

struct Preparation {
  TempDir dir;
  PrepareOptions options;
  PrepareSummary summary;

  Preparation() { options.output = dir / "out"; }

  void input(const std::string& name, const std::string& content) {
    write_bytes(dir / name, content);
    options.inputs.push_back(dir / name);
  }
  Documents run() {
    summary = prepare_tokens(options);
    return documents_of(options.output);
  }
  std::string error(ExitCode code = ExitCode::kData) {
    const std::string message = message_of(code, [&] { prepare_tokens(options); });
    CHECK(!std::filesystem::exists(dir / "out.bin"));
    CHECK(!std::filesystem::exists(dir / "out.idx"));
    return message;
  }
};

std::string pattern_text(std::size_t size) {
  std::string text(size, ' ');
  for (std::size_t i = 0; i < size; ++i) text[i] = static_cast<char>(1 + i * 7919 % 255);
  return text;
}

}  // namespace

TEST_CASE("A text file becomes one document", "[prepare]") {
  Preparation p;
  p.input("a.txt", "In the beginning\nλόγος");
  CHECK(p.run() == Documents{"In the beginning\nλόγος"});
  CHECK(p.summary.dtype == TokenDType::kU8);
  CHECK(p.summary.tokens == 28);
  CHECK(p.summary.documents == 1);
  CHECK(p.summary.text_bytes == 27);
  CHECK(p.summary.input_bytes == 27);
  CHECK(p.summary.bin_path == p.dir / "out.bin");
  CHECK(p.dir.files() == 3);  // no temporary file is left
}

TEST_CASE("Several files follow each other, empty ones leave no document", "[prepare]") {
  Preparation p;
  p.input("a.txt", "one");
  p.input("b.txt", "");
  p.input("c.jsonl", "{\"text\": \"two\"}\n");
  p.input("d", "three");
  CHECK(p.run() == Documents{"one", "two", "three"});
}

TEST_CASE("A separator line ends a document", "[prepare]") {
  Preparation p;
  p.options.separator_line = "<|end|>";
  p.input("a.txt", "<|end|>\none\nmore\n<|end|>\r\n<|end|>\ntwo <|end|>\n<|end|> \n<|end|>");
  p.input("b.txt", "three");
  CHECK(p.run() == Documents{"one\nmore\n", "two <|end|>\n<|end|> \n", "three"});
}

TEST_CASE("An empty separator means blank lines", "[prepare]") {
  Preparation p;
  p.options.separator_line = "";
  p.input("a.txt", "\n\none\ntwo\n\n\nthree\n");
  CHECK(p.run() == Documents{"one\ntwo\n", "three\n"});
}

TEST_CASE("Text longer than any buffer survives, with and without newlines", "[prepare]") {
  Preparation p;
  const std::string one_line(3'000'000, 'x'), bytes = pattern_text(2'500'001);
  p.options.separator_line = "--";
  p.input("a.txt", one_line + "\n--\n" + bytes);
  CHECK(p.run() == Documents{one_line + "\n", bytes});
}

TEST_CASE("NUL bytes are dropped from text", "[prepare]") {
  Preparation p;
  p.input("a.txt", std::string("a\0b\0", 4));
  p.input("b.jsonl", R"({"text": "c\u0000d"})");
  CHECK(p.run() == Documents{"ab", "cd"});
}

TEST_CASE("JSONL gives the text at its key", "[prepare]") {
  Preparation p;
  p.options.json_key = "content";
  p.input("a.jsonl",
          "{\"id\": 1, \"content\": \"first\\nline\"}\r\n"
          "   \n\n"
          "{\"content\": \"\\u03bb \\ud83d\\udd4a λ\", \"meta\": {\"content\": [1, {}]}}\n"
          "{\"content\": \"\"}\n"
          "{\"content\": \"last\"}");  // no newline at the end
  CHECK(p.run() == Documents{"first\nline", "λ 🕊 λ", "last"});
}

TEST_CASE("A JSONL line may be long", "[prepare]") {
  Preparation p;
  std::string text;
  for (int i = 0; i < 300'000; ++i) text += "λ\n\"" + std::to_string(i);
  p.input("a.jsonl", nlohmann::json{{"text", text}}.dump() + "\n" + nlohmann::json{{"text", "b"}}.dump());
  CHECK(p.run() == Documents{text, "b"});
}

TEST_CASE("JSONL errors name file and line", "[prepare]") {
  const auto error = [](const std::string& second_line) {
    Preparation p;
    p.input("a.jsonl", "{\"text\": \"fine\"}\n" + second_line + "\n{\"text\": \"fine\"}\n");
    const std::string message = p.error();
    CHECK(contains(message, "a.jsonl:2: "));
    CHECK(!contains(message, "line 1"));
    return message;
  };
  CHECK(contains(error("{\"text\": \"open"), "not valid JSON at column 15"));
  CHECK(contains(error("{\"text\": \"a\"} trailing"), "not valid JSON at column 17"));
  CHECK(contains(error("{\"text\": \"\xff\"}"), "not valid JSON at column 11"));
  CHECK(contains(error("{\"text\": \"\\ud800\"}"), "not valid JSON"));
  CHECK(contains(error("{\"body\": \"a\"}"), "no key \"text\""));
  CHECK(contains(error("{\"text\": 3}"), "\"text\" is not a string but number"));
  CHECK(contains(error("{\"text\": null}"), "not a string but null"));
  CHECK(contains(error("[\"text\"]"), "expected an object, found array"));
  CHECK(contains(error(std::string(100'000, '[')), "not valid JSON"));
}

TEST_CASE("The format can be told", "[prepare]") {
  Preparation p;
  p.input("a.jsonl", "{\"text\": 3}\n");
  p.options.format = InputFormat::kText;
  CHECK(p.run() == Documents{"{\"text\": 3}\n"});
  p.options.format = InputFormat::kJsonl;
  p.options.output = p.dir / "second";
  CHECK(contains(message_of(ExitCode::kData, [&] { p.run(); }), "a.jsonl:1"));
}

TEST_CASE("Bad input leaves an older output alone", "[prepare]") {
  Preparation p;
  p.input("a.txt", "old");
  p.run();
  p.options.inputs = {};
  p.input("b.jsonl", "{\"text\": \"new\"}\n{");
  message_of(ExitCode::kData, [&] { p.run(); });
  CHECK(documents_of(p.options.output) == Documents{"old"});
  p.options.inputs = {};
  p.input("c.jsonl", "{\"text\": \"new\"}\n");
  CHECK(p.run() == Documents{"new"});
}

TEST_CASE("Preparing nothing is an error", "[prepare]") {
  Preparation p;
  CHECK(contains(p.error(ExitCode::kUsage), "no input file"));
  p.input("empty.txt", "");
  CHECK(contains(p.error(), "no text"));
  p.options.inputs.push_back(p.dir / "missing.txt");
  CHECK(contains(p.error(), "missing.txt"));
  p.options.inputs = {p.dir / "empty.txt"};
  p.options.tokenizer = "words";
  CHECK(contains(p.error(ExitCode::kUsage), "'words'"));
  p.options.output.clear();
  CHECK(contains(p.error(ExitCode::kUsage), "no output"));
}

TEST_CASE("Progress is given in words", "[prepare]") {
  CHECK(progress_text(1'500'000'000, 3'000'000'000, 2) == "1.50 of 3.00 GB    50.0 %   750 MB/s   2 s left");
  CHECK(progress_text(500, 1000, 0) == "0.50 of 1.00 kB    50.0 %");
  CHECK(progress_text(0, 0, 1) == "0.00 of 0.00 B   100.0 %");
  CHECK(contains(progress_text(1'000'000, 400'000'000'000, 1), "111 h 06 min left"));
  CHECK(contains(progress_text(1'000'000, 1'001'000'000, 1), "16 min 40 s left"));
}

TEST_CASE("Inspect counts what is there", "[inspect]") {
  TempDir dir;
  write_pair(dir / "t", TokenDType::kU8, {{'a', 'b', 'a', '\n', 0}, {'a', 'a', 0}});
  const InspectReport r = inspect_tokens(dir / "t", 6);
  CHECK(r.tokens == 8);
  CHECK(r.documents == 2);
  CHECK(r.shortest_document == 3);
  CHECK(r.longest_document == 5);
  CHECK(r.smallest_id == 0);
  CHECK(r.largest_id == 'b');
  CHECK(r.distinct_ids == 4);
  CHECK(r.entropy_bits == Approx(0.5 * 1 + 0.25 * 2 + 2 * 0.125 * 3));
  REQUIRE(r.most_common.size() == 4);
  CHECK(r.most_common[0].id == 'a');
  CHECK(r.most_common[0].count == 4);
  CHECK(r.most_common[2].id == '\n');  // equal counts: smaller id first
  CHECK(r.first_ids == std::vector<std::int32_t>{'a', 'b', 'a', '\n', 0, 'a'});
  const std::string text = to_text(r);
  for (const char* part : {"Megatron .bin/.idx, u8", "2, 3 to 5 tokens, 4.0 on average",
                           "0 to 98, 4 distinct", "'a' 50.0% '\\x00' 25.0%", "begins with aba\\n"})
    CHECK(contains(text, part));
}

TEST_CASE("Inspect copes with large ids and with empty files", "[inspect]") {
  TempDir dir;
  write_pair(dir / "t", TokenDType::kI32, {{2'000'000'000, 5, 2'000'000'000, 70'000}});
  const InspectReport r = inspect_tokens(dir / "t", 2);
  CHECK(r.largest_id == 2'000'000'000);
  CHECK(r.distinct_ids == 3);
  CHECK(r.most_common[0].count == 2);
  CHECK(contains(to_text(r), "begins with 2000000000 5"));

  write_pair(dir / "e", TokenDType::kU16, {});
  const std::string text = to_text(inspect_tokens(dir / "e", 5));
  CHECK(contains(text, "documents   none"));
  CHECK(!contains(text, "begins with"));
}

}  // namespace jevons
