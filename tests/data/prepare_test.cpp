#include "data/prepare.h"

#include <sys/stat.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <thread>

#include "data/inspect.h"
#include "data/progress.h"
#include "data/token_file.h"
#include "data/tokenizer.h"
#include "tests/data/compressed.h"
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

TEST_CASE("An option that no input can use is refused", "[prepare]") {
  Preparation p;
  p.input("a.jsonl", "{\"body\": \"one\"}\n");
  p.options.separator_line = "--";
  CHECK(contains(p.error(ExitCode::kUsage), "no input is text"));
  p.options.separator_line.reset();
  p.options.inputs.clear();
  p.input("b.txt", "two");
  p.options.json_key = "body";
  CHECK(contains(p.error(ExitCode::kUsage), "no input is JSON"));
  p.options.inputs.push_back(p.dir / "a.jsonl");
  CHECK(p.run() == Documents{"two", "one"});
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

TEST_CASE("Compressed input is read by its content", "[prepare]") {
  Preparation p;
  const std::string lines = "{\"text\": \"one\"}\n{\"text\": \"two\"}\n";
  p.input("a.JSONL.GZ", gzip_of(lines));
  p.input("b.jsonl.zst", zstd_of(lines));
  p.input("c.txt.gz", gzip_of("three"));
  p.input("d", zstd_of("four"));
  CHECK(p.run() == Documents{"one", "two", "one", "two", "three", "four"});
  CHECK(p.summary.input_bytes ==
        gzip_of(lines).size() + zstd_of(lines).size() + gzip_of("three").size() + zstd_of("four").size());
  CHECK(p.summary.text_bytes == 21);
  CHECK(p.summary.files == 4);
}

TEST_CASE("JSON is read as an array, as objects and as lines", "[prepare]") {
  Preparation p;
  p.input("a.json", "[\n  {\"text\": \"one\"},\n  {\"text\": \"two\"}\n]\n");
  p.input("b.JSON", "{\"text\": \"three\"}\n{\"text\": \"four\"}\n");
  p.input("c.json.gz", gzip_of("{\n\"text\": \"five\"\n}"));
  p.input("d.NDJSON", "{\"text\": \"six\"}");
  p.input("e", "\n{\"text\": \"seven\"}\n");  // no name says what it is, so the content does
  p.input("f.txt", "{braces} and [brackets]");
  CHECK(p.run() ==
        Documents{"one", "two", "three", "four", "five", "six", "seven", "{braces} and [brackets]"});
}

TEST_CASE("What is no text is refused by name, with what to do", "[prepare]") {
  const auto error = [](const std::string& name, const std::string& bytes,
                        InputFormat format = InputFormat::kAuto) {
    Preparation p;
    p.options.format = format;
    p.input("fine.txt", "fine");
    p.input(name, bytes);
    const std::string message = p.error();
    CHECK(contains(message, name + ":"));
    return message;
  };
  const auto bytes = [](const char* text, std::size_t size) { return std::string(text, size); };
  CHECK(contains(error("a.jsonl.xz", bytes("\xfd\x37zXZ\0more", 10)), "xz data"));
  CHECK(contains(error("a.docx", bytes("PK\3\4more", 8)), "zip archive"));
  CHECK(contains(error("a.txt.bz2", "BZh91AY&SYmore"), "bzip2"));
  CHECK(contains(error("a.parquet", "PAR1more"), "Parquet"));
  CHECK(contains(error("a.pdf", "%PDF-1.7\n"), "PDF"));
  CHECK(contains(error("a.txt", bytes("\xff\xfeh\0i\0", 6)), "iconv"));
  CHECK(contains(error("a.gz", gzip_of(gzip_of("text"))), "within compressed"));
  CHECK(contains(error("a.tgz", gzip_of(std::string(257, 'a') + "ustar\00000")), "tar archive"));
  CHECK(contains(error("a.idx", bytes("MMIDIDX\0\0\1", 10)), "token file"));
  CHECK(contains(error("a.bin", bytes("\x88\xd8\x34\1", 4)), "llm.c"));
  CHECK(contains(error("a.txt", bytes("PK\3\4more", 8), InputFormat::kText), "zip archive"));

  std::string numbers;
  for (int i = 0; i < 1000; ++i) numbers += bytes("\7\0\0\0", 4);
  CHECK(contains(error("a.dat", numbers), "not text: 3000 of 4000 bytes are NUL"));
  CHECK(contains(error("late.txt", std::string(100'000, 'x') + "\n" + numbers + numbers + numbers), "NUL"));
  CHECK(contains(error("a.txt", "{\"text\": \"one\"}\n"), "begins as JSON; say --format jsonl"));
  CHECK(contains(error("a.TXT.gz", gzip_of("\xef\xbb\xbf [ {\"text\": \"one\"}]")), "begins as JSON"));
  CHECK(contains(error("a.json", "text"), "a.json:1: not valid JSON"));
}

TEST_CASE("Token files are no text", "[prepare]") {
  Preparation p;
  p.input("a.txt", "text");
  p.run();
  p.options.output = p.dir / "again";
  for (const char* name : {"out.bin", "out.idx"}) {
    p.options.inputs = {p.dir / name};
    CHECK(contains(message_of(ExitCode::kData, [&] { p.run(); }),
                   std::string(name) + ": this is one of a pair"));
  }
}

TEST_CASE("The format that is asked for overrules name and content", "[prepare]") {
  Preparation p;
  p.input("a.txt.gz", gzip_of("{\"text\": \"one\"}\n"));
  p.options.format = InputFormat::kText;
  CHECK(p.run() == Documents{"{\"text\": \"one\"}\n"});
  p.options.format = InputFormat::kJsonl;
  CHECK(p.run() == Documents{"one"});
  p.options.format = InputFormat::kJson;
  CHECK(p.run() == Documents{"one"});

  Preparation nuls;
  nuls.input("n.txt", std::string(50, '\0') + "a");
  CHECK(contains(nuls.error(), "--format text"));
  nuls.options.format = InputFormat::kText;
  CHECK(nuls.run() == Documents{"a"});
  CHECK(nuls.summary.dropped_nuls == 50);
}

TEST_CASE("Documents of NULs only are empty", "[prepare]") {
  Preparation p;
  p.input("n.jsonl", "{\"text\":\"\\u0000\"}\n{\"text\":\"a\"}\n");
  p.input("z.txt", std::string(300'000, '\0'));
  p.input("s.txt", std::string("b\n--\n\0\0\n--\n\0", 12));
  p.options.separator_line = "--";
  CHECK(p.run() == Documents{"a", "b\n", "\n"});
  CHECK(p.summary.documents == 3);
  CHECK(p.summary.dropped_nuls == 300'004);

  Preparation alone;
  alone.input("z.txt", std::string(300'000, '\0'));
  CHECK(contains(alone.error(), "no text"));
}

TEST_CASE("Bad records are skipped, counted and named if that is wanted", "[prepare]") {
  Preparation p;
  p.options.skip_bad_lines = true;
  p.input("a.jsonl", "{\"text\": \"one\"}\n{\"text\": \"ope\n\n{\"text\": 3}\n{\"text\": \"two\"}\n{}\n");
  p.input("b.json", "[{\"text\": \"three\"},\n 7, {\"text\": null},\n{\"text\": \"four\"}, \"x\"]");
  CHECK(p.run() == Documents{"one", "two", "three", "four"});
  CHECK(p.summary.bad_records == 6);
  REQUIRE(p.summary.first_bad.size() == 5);
  CHECK(contains(p.summary.first_bad[0], "a.jsonl:2: not valid JSON at column 14"));
  CHECK(contains(p.summary.first_bad[1], "a.jsonl:4: \"text\" is not a string"));
  CHECK(contains(p.summary.first_bad[2], "a.jsonl:6: the object has no key"));
  CHECK(contains(p.summary.first_bad[3], "b.json:2: expected an object, found number"));
  Preparation none;
  none.options.skip_bad_lines = true;
  none.input("a.jsonl", "x\ny\n");
  CHECK(contains(none.error(), "no text; 2 records were skipped, the first: "));
}

TEST_CASE("Patterns give their files by name", "[prepare]") {
  Preparation p;
  for (const char* name : {"c-10.txt", "c-2.txt", "c-1.txt", "other.txt"}) write_bytes(p.dir / name, name);
  p.options.inputs = {p.dir / "c-*.txt", p.dir / "oth[e]r.txt"};
  CHECK(p.run() == Documents{"c-1.txt", "c-10.txt", "c-2.txt", "other.txt"});
  p.options.inputs = {p.dir / "d-*.txt"};
  p.options.output = p.dir / "second";
  CHECK(contains(message_of(ExitCode::kData, [&] { p.run(); }), "no file matches '" + p.dir / "d-*.txt"));
  p.options.inputs = {p.dir / ""};
  CHECK(contains(message_of(ExitCode::kData, [&] { p.run(); }), "is a directory; a pattern takes"));
}

TEST_CASE("A pipe is read to its end", "[prepare]") {
  Preparation p;
  const std::string fifo = p.dir / "pipe";
  REQUIRE(mkfifo(fifo.c_str(), 0600) == 0);
  p.options.inputs = {fifo};
  std::string lines;
  for (int i = 0; i < 50'000; ++i) lines += "{\"text\": \"" + std::to_string(i) + "\"}\n";
  std::thread writer([&] { write_bytes(fifo, zstd_of(lines)); });
  const Documents documents = p.run();
  writer.join();
  REQUIRE(documents.size() == 50'000);
  CHECK(documents.back() == "49999");
  CHECK(p.summary.input_bytes == zstd_of(lines).size());
}

TEST_CASE("Nothing is written over an input or a foreign file", "[prepare]") {
  Preparation p;
  write_bytes(p.dir / "t.bin", "text of mine");
  p.options.output = p.dir / "t";
  p.options.inputs = {p.dir / "t.bin"};
  CHECK(contains(message_of(ExitCode::kUsage, [&] { p.run(); }), "t.bin: is read as an input too"));
  std::filesystem::create_hard_link(p.dir / "t.bin", p.dir / "other.txt");
  p.options.inputs = {p.dir / "other.txt"};
  CHECK(contains(message_of(ExitCode::kUsage, [&] { p.run(); }), "is read as an input too"));
  write_bytes(p.dir / "new.txt", "new");
  p.options.inputs = {p.dir / "new.txt"};
  CHECK(contains(message_of(ExitCode::kUsage, [&] { p.run(); }), "t.bin: is there and is not one of a pair"));
  CHECK(read_bytes(p.dir / "t.bin") == "text of mine");
  std::filesystem::rename(p.dir / "t.bin", p.dir / "t.idx");
  CHECK(contains(message_of(ExitCode::kUsage, [&] { p.run(); }), "t.idx: is there and is not one of a pair"));
  CHECK(read_bytes(p.dir / "t.idx") == "text of mine");
  std::filesystem::remove(p.dir / "t.idx");
  CHECK(p.run() == Documents{"new"});
  CHECK(p.run() == Documents{"new"});  // over its own pair

  const auto output_error = [&](const std::string& output) {
    p.options.output = output;
    return message_of(ExitCode::kUsage, [&] { p.run(); });
  };
  CHECK(
      contains(output_error(p.dir / "d/"), "is a directory; give a prefix in it, as " + p.dir / "d/corpus"));
  CHECK(contains(output_error("."), "is a directory"));
  CHECK(contains(output_error(p.dir / "q.bin"), "give " + p.dir / "q, which makes"));
  CHECK(contains(output_error(p.dir / "q.idx"), "give " + p.dir / "q, which makes"));
}

TEST_CASE("Progress is given in words", "[prepare]") {
  CHECK(progress_text(1'500'000'000, 3'000'000'000, 2) == "1.50 of 3.00 GB    50.0 %   750 MB/s   2 s left");
  CHECK(progress_text(500, 1000, 0) == "0.50 of 1.00 kB    50.0 %");
  CHECK(progress_text(2'500'000, std::nullopt, 2) == "2.50 MB   1 MB/s");
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
