#include "data/document_reader.h"

#include <utility>

#include "tests/data/temp_files.h"

namespace jevons {
namespace {

class RecordingSink final : public DocumentSink {
 public:
  std::vector<std::vector<std::string>> documents;  // (documents, pieces)
  std::uint64_t consumed_bytes = 0;

  void text(std::string_view piece) override { open_.emplace_back(piece); }
  void end_document() override { documents.push_back(std::exchange(open_, {})); }
  void consumed(std::uint64_t file_bytes) override {
    CHECK(file_bytes >= consumed_bytes);
    consumed_bytes = file_bytes;
  }

 private:
  std::vector<std::string> open_;
};

}  // namespace

TEST_CASE("Long documents are cut behind newlines", "[document_reader]") {
  const TempDir dir;
  std::string text;
  for (int line = 0; line < 40'000; ++line)
    text += std::string(static_cast<std::size_t>(line % 101), 'x') + "\n";
  text += "no newline at the end";
  write_bytes(dir / "t", text);
  RecordingSink sink;
  const MappedFile file(dir / "t");
  read_text(file, std::nullopt, sink);
  REQUIRE(sink.documents.size() == 1);
  const auto& pieces = sink.documents[0];
  CHECK(pieces.size() > 4);
  std::string joined;
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    CHECK(pieces[i].size() <= std::size_t{256} << 10);
    CHECK((i + 1 == pieces.size() || pieces[i].ends_with('\n')));
    joined += pieces[i];
  }
  CHECK(joined == text);
  CHECK(sink.consumed_bytes == text.size());
}

TEST_CASE("All bytes of a file are reported as consumed", "[document_reader]") {
  const TempDir dir;
  const std::string text = "--\n{\"text\": \"a\"}\n--\n--\n\n";
  write_bytes(dir / "t", text);
  const MappedFile file(dir / "t");
  RecordingSink sink;
  read_text(file, "--", sink);
  CHECK(sink.consumed_bytes == text.size());
  CHECK(sink.documents.size() == 2);

  write_bytes(dir / "j", "{\"text\": \"a\"}\n\n\n");
  RecordingSink json;
  read_jsonl(MappedFile(dir / "j"), "text", json);
  CHECK(json.consumed_bytes == 16);
}

TEST_CASE("Memory behind the reader is given back and reads the same again", "[document_reader]") {
  const TempDir dir;
  std::string text((std::size_t{64} << 20) + 12345, 'y');
  text[text.size() - 1] = 'z';
  write_bytes(dir / "t", text);
  const MappedFile file(dir / "t");
  for (int pass = 0; pass < 2; ++pass) {
    RecordingSink sink;
    read_text(file, std::nullopt, sink);
    REQUIRE(sink.documents.size() == 1);
    CHECK(sink.documents[0].back().back() == 'z');
    CHECK(sink.documents[0].front().front() == 'y');
  }
}

}  // namespace jevons
