// Text that becomes documents, and where they are written.
#include "data/prepare.h"

#include <sys/stat.h>

#include <algorithm>
#include <thread>

#include "data/progress.h"
#include "tests/data/compressed.h"
#include "tests/data/preparation.h"

namespace jevons {
namespace {

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
  CHECK(p.dir.files() == 4);  // input, pair and facts: no temporary file is left
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

}  // namespace jevons
