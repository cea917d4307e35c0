// Which formats are read, and what is refused.
#include "data/prepare.h"

#include <nlohmann/json.hpp>

#include "tests/data/compressed.h"
#include "tests/data/preparation.h"

namespace jevons {

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

}  // namespace jevons
