#include "data/document_reader.h"

#include <utility>

#include "tests/data/compressed.h"
#include "tests/data/temp_files.h"

namespace jevons {
namespace {

class RecordingSink final : public DocumentSink {
 public:
  std::vector<std::vector<std::string>> documents;  // (documents, pieces)
  std::uint64_t consumed_bytes = 0;

  void text(std::string_view piece) override {
    CHECK(!piece.empty());
    open_.emplace_back(piece);
  }
  void end_document() override {
    if (!open_.empty()) documents.push_back(std::exchange(open_, {}));
  }
  void consumed(std::uint64_t file_bytes) override {
    CHECK(file_bytes >= consumed_bytes);
    consumed_bytes = file_bytes;
  }
  std::vector<std::string> texts() const {
    std::vector<std::string> texts;
    for (const auto& pieces : documents) {
      texts.emplace_back();
      for (const std::string& piece : pieces) texts.back() += piece;
    }
    return texts;
  }

 private:
  std::vector<std::string> open_;
};

std::vector<std::string> json_texts(const std::string& path) {
  RecordingSink sink;
  Input input(path);
  read_json(input,
            {.on_bad_record = [](const std::string& problem) { fail(ExitCode::kData, "{}", problem); }},
            sink);
  return sink.texts();
}

}  // namespace

TEST_CASE("Long documents are cut behind newlines", "[document_reader]") {
  const TempDir dir;
  std::string text;
  for (int line = 0; line < 40'000; ++line)
    text += std::string(static_cast<std::size_t>(line % 101), 'x') + "\n";
  text += "no newline at the end";
  for (const bool compressed : {false, true}) {
    const std::string stored = compressed ? gzip_of(text) : text;
    write_bytes(dir / "t", stored);
    RecordingSink sink;
    Input input(dir / "t");
    read_text(input, std::nullopt, sink);
    REQUIRE(sink.documents.size() == 1);
    const auto& pieces = sink.documents[0];
    CHECK(pieces.size() > 4);
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      CHECK(pieces[i].size() <= std::size_t{256} << 10);
      CHECK((i + 1 == pieces.size() || pieces[i].ends_with('\n')));
    }
    CHECK(sink.texts()[0] == text);
    CHECK(sink.consumed_bytes == stored.size());
  }
}

TEST_CASE("All bytes of a file are reported as consumed", "[document_reader]") {
  const TempDir dir;
  const std::string text = "--\n{\"text\": \"a\"}\n--\n--\n\n";
  write_bytes(dir / "t", text);
  Input input(dir / "t");
  RecordingSink sink;
  read_text(input, "--", sink);
  CHECK(sink.consumed_bytes == text.size());
  CHECK(sink.documents.size() == 2);

  write_bytes(dir / "j", "{\"text\": \"a\"}\n\n\n");
  Input lines(dir / "j");
  RecordingSink json;
  read_jsonl(lines, {}, json);
  CHECK(json.consumed_bytes == 16);
}

TEST_CASE("A separator line is found wherever pieces are cut", "[document_reader]") {
  const TempDir dir;
  // Lines without end around the size of a piece, so that separators fall before, on and behind a cut; a part
  // of a long line that looks like one is none.
  for (int shift = -7; shift <= 7; ++shift) {
    const std::string line(static_cast<std::size_t>((256 << 10) + shift), 'x');
    write_bytes(dir / "t", line + "\n<>\n" + line + "<>\n<>\r\n" + line + line + "\n<>");
    Input input(dir / "t");
    RecordingSink sink;
    read_text(input, "<>", sink);
    CHECK(sink.texts() == std::vector<std::string>{line + "\n", line + "<>\n", line + line + "\n"});
  }
}

TEST_CASE("JSON values are found in any layout", "[document_reader]") {
  const TempDir dir;
  const std::string brackets = R"({"x": ["]}", {"y": "\\\""}], "text": "a]}[{,\\"})";
  using Texts = std::vector<std::string>;
  const auto texts = [&](const std::string& json) {
    write_bytes(dir / "t.json", json);
    return json_texts(dir / "t.json");
  };
  CHECK(texts("[" + brackets + " , " + brackets + "]\n") == Texts{"a]}[{,\\", "a]}[{,\\"});
  CHECK(texts("\xef\xbb\xbf \n[\n]\n").empty());
  CHECK(texts("{\n  \"text\":\n  \"one\"\n}\n{\"text\":\"two\"}{\"text\":\"three\"}") ==
        Texts{"one", "two", "three"});
  CHECK(texts("[{\"text\":\"a\"}] [{\"text\":\"b\"}]") == Texts{"a", "b"});
  CHECK(texts("").empty());
  std::string many = "[", long_text(3'000'000, 'y');
  for (int i = 0; i < 100'000; ++i) many += "{\"text\": \"" + std::to_string(i) + "\"},\n";
  many += "{\"text\": \"" + long_text + "\"}]";
  const Texts all = texts(many);
  REQUIRE(all.size() == 100'001);
  CHECK(all[99'999] == "99999");
  CHECK(all.back() == long_text);
}

TEST_CASE("JSON that is broken is refused with its line", "[document_reader]") {
  const TempDir dir;
  const auto error = [&](const std::string& json) {
    write_bytes(dir / "t.json", json);
    return message_of(ExitCode::kData, [&] { json_texts(dir / "t.json"); });
  };
  CHECK(
      contains(error("[{\"text\":\"a\"}\n {\"text\":\"b\"}]"), "t.json:2: not valid JSON: expected a comma"));
  CHECK(contains(error("[\n{\"text\":\"a\"},\n{\"text\":\"b"),
                 "t.json:3: not valid JSON: the text ends inside the value"));
  CHECK(contains(error("[{\"text\":\"a\"},\n"), "t.json:2: not valid JSON: the text ends inside the array"));
  CHECK(contains(error("[{\"text\":\"a\"},]"), "found ']'"));
  CHECK(contains(error("[}]"), "found '}'"));
  CHECK(contains(error("{\"text\":\"a\"},{\"text\":\"b\"}"),
                 "expected an object or an array of objects, found ','"));
  CHECK(contains(error("\"text\""), "expected an object or an array"));
  CHECK(contains(error("[\n\"a\", 3]"), "t.json:2: expected an object, found string"));
  CHECK(contains(error("[\n{\"text\": x}]"), "t.json:2: not valid JSON at character 10"));
  CHECK(contains(error("{\"data\":\n[{\"text\":\"a\"}]}"), "t.json:1: the object has no key \"text\""));
}

TEST_CASE("Damaged and truncated data is refused with its offset", "[document_reader]") {
  const TempDir dir;
  std::string text;
  for (int i = 0; i < 60'000; ++i) text += std::to_string(i * 7919) + "\n";
  const auto error = [&](const std::string& name, const std::string& bytes) {
    write_bytes(dir / name, bytes);
    RecordingSink sink;
    return message_of(ExitCode::kData, [&] {
      Input input(dir / name);
      read_text(input, std::nullopt, sink);
    });
  };
  for (const bool gzip : {true, false}) {
    const std::string name = gzip ? "t.gz" : "t.zst", whole = gzip ? gzip_of(text) : zstd_of(text);
    for (const std::size_t size : {whole.size() - 1, whole.size() / 2, std::size_t{5}}) {
      const std::string message = error(name, whole.substr(0, size));
      CHECK(contains(message, name + ": offset " + std::to_string(size) + ": the "));
      CHECK(contains(message, "truncated"));
    }
    std::string damaged = whole;
    damaged[whole.size() / 2] ^= 0x55;
    const std::string message = error(name, damaged);
    CHECK(contains(message, name + ": offset "));
    CHECK(contains(message, "is damaged"));
    CHECK(contains(error(name, whole + "garbage"), "is damaged"));
    CHECK(contains(error(name, text), "the name says"));
    CHECK(contains(error(name, ""), "the file is empty"));
  }
}

TEST_CASE("Streams of several members are one text", "[document_reader]") {
  const TempDir dir;
  const auto read = [&](const std::string& bytes) {
    write_bytes(dir / "t", bytes);
    RecordingSink sink;
    Input input(dir / "t");
    read_text(input, std::nullopt, sink);
    CHECK(input.file_bytes() == bytes.size());
    return sink.texts().at(0);
  };
  CHECK(read(gzip_of("one ") + gzip_of("") + gzip_of("two")) == "one two");
  CHECK(read(gzip_of("one") + std::string(512, '\0')) == "one");
  const std::string skippable = std::string("\x50\x2a\x4d\x18\x04\0\0\0abcd", 12);
  CHECK(read(skippable + zstd_of("one ") + skippable + zstd_of("two")) == "one two");
}

}  // namespace jevons
