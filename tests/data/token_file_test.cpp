#include "data/token_file.h"

#include "tests/data/temp_files.h"

namespace jevons {
namespace {

constexpr std::int64_t kVocab = 100000;

std::vector<std::int32_t> all_ids(const TokenFile& file, std::int64_t vocab_size = kVocab) {
  std::vector<std::int32_t> ids(static_cast<std::size_t>(file.num_tokens()));
  file.read(0, ids, vocab_size);
  return ids;
}

template <class T>
std::string llmc_bytes(std::int32_t magic, std::int32_t version, std::int32_t count,
                       const std::vector<T>& ids) {
  std::vector<std::int32_t> header(256);
  header[0] = magic, header[1] = version, header[2] = count;
  std::string bytes(reinterpret_cast<const char*>(header.data()), 1024);
  return bytes.append(reinterpret_cast<const char*>(ids.data()), ids.size() * sizeof(T));
}

const std::vector<std::uint16_t> kShort = {1, 50256, 65535};

std::string open_error(const std::string& path) {
  return message_of(ExitCode::kData, [&] { TokenFile file(path); });
}

}  // namespace

TEST_CASE("A written pair reads back, in every dtype", "[token_file]") {
  const TempDir dir;
  const TokenDType dtype = GENERATE(TokenDType::kU8, TokenDType::kI8, TokenDType::kI16, TokenDType::kU16,
                                    TokenDType::kI32, TokenDType::kI64);
  const std::vector<std::vector<std::int32_t>> documents = {{5, 6, 7}, {}, {127, 0}, {9}};
  write_pair(dir / "a/b", dtype, documents);
  for (const char* name : {"a/b", "a/b.bin", "a/b.idx"}) {
    const TokenFile file(dir / name);
    CHECK(file.dtype() == dtype);
    CHECK(all_ids(file) == std::vector<std::int32_t>{5, 6, 7, 127, 0, 9});
    REQUIRE(file.index() != nullptr);
    CHECK(file.index()->num_documents() == 4);
    CHECK(file.index()->document_begin(1) == 3);
    CHECK(file.index()->document_begin(2) == 3);
    CHECK(file.index()->document_begin(3) == 5);
  }
}

TEST_CASE("The bytes of a pair are Megatron's", "[token_file]") {
  const TempDir dir;
  write_pair(dir / "t", TokenDType::kU16, {{258, 3}, {4}});
  CHECK(read_bytes(dir / "t.bin") == std::string("\x02\x01\x03\0\x04\0", 6));
  const std::string expected = std::string("MMIDIDX\0\0", 9) + std::string("\1\0\0\0\0\0\0\0", 8) + "\x08" +
                               std::string("\2\0\0\0\0\0\0\0", 8) + std::string("\3\0\0\0\0\0\0\0", 8) +
                               std::string("\2\0\0\0\1\0\0\0", 8) + std::string("\0\0\0\0\0\0\0\0", 8) +
                               std::string("\4\0\0\0\0\0\0\0", 8) + std::string("\0\0\0\0\0\0\0\0", 8) +
                               std::string("\1\0\0\0\0\0\0\0", 8) + std::string("\2\0\0\0\0\0\0\0", 8);
  CHECK(read_bytes(dir / "t.idx") == expected);
}

TEST_CASE("Large files cross the writer's buffers", "[token_file]") {
  const TempDir dir;
  std::vector<std::vector<std::int32_t>> documents;
  std::vector<std::int32_t> all;
  for (std::int32_t d = 0; d < 10000; ++d) {
    documents.push_back(counting(d, d + d % 97));
    all.insert(all.end(), documents.back().begin(), documents.back().end());
  }
  documents.push_back(counting(0, 99999));
  all.insert(all.end(), documents.back().begin(), documents.back().end());
  write_pair(dir / "t", TokenDType::kI32, documents);
  const TokenFile file(dir / "t");
  CHECK(file.index()->num_documents() == 10001);
  CHECK(all_ids(file) == all);
}

TEST_CASE("A document too long for one sequence becomes several", "[token_file]") {
  const TempDir dir;
  TokenWriter writer(dir / "t", TokenDType::kU8, 4);
  for (const auto& document : {counting(0, 3), counting(3, 14), counting(14, 18), counting(18, 19)}) {
    writer.append(document);
    writer.end_document();
  }
  writer.commit();
  const TokenFile file(dir / "t");
  CHECK(file.index()->num_sequences() == 6);
  CHECK(file.index()->num_documents() == 4);
  CHECK(file.index()->document_begin(1) == 3);
  CHECK(file.index()->document_begin(2) == 14);
  CHECK(file.index()->document_begin(3) == 18);
  CHECK(all_ids(file) == counting(0, 19));
}

TEST_CASE("Without commit a writer leaves everything as it was", "[token_file]") {
  const TempDir dir;
  write_pair(dir / "t", TokenDType::kU8, {{1, 2}});
  {
    TokenWriter writer(dir / "t", TokenDType::kU8);
    writer.append(counting(0, 200));
    writer.end_document();
  }
  CHECK(all_ids(TokenFile(dir / "t")) == std::vector<std::int32_t>{1, 2});
  CHECK(dir.files() == 2);
}

TEST_CASE("A writer refuses ids that do not fit and places it cannot write", "[token_file]") {
  const TempDir dir;
  TokenWriter writer(dir / "t", TokenDType::kU8);
  CHECK_THROWS_AS(writer.append(std::vector<std::int32_t>{256}), Error);
  CHECK_THROWS_AS(writer.append(std::vector<std::int32_t>{-1}), Error);
  write_bytes(dir / "file", "");
  CHECK(contains(message_of(ExitCode::kUsage, [&] { TokenWriter(dir / "file/t", TokenDType::kU8); }),
                 "file/t.bin"));
}

TEST_CASE("A pair with no documents is valid", "[token_file]") {
  const TempDir dir;
  write_pair(dir / "t", TokenDType::kU16, {});
  const TokenFile file(dir / "t");
  CHECK(file.num_tokens() == 0);
  CHECK(file.index()->num_documents() == 0);
}

TEST_CASE("llm.c files are read, u16 and u32", "[token_file]") {
  const TempDir dir;
  write_bytes(dir / "gpt2.bin", llmc_bytes(20240520, 1, 3, kShort));
  const TokenFile gpt2(dir / "gpt2.bin");
  CHECK(gpt2.dtype() == TokenDType::kU16);
  CHECK(gpt2.index() == nullptr);
  CHECK(all_ids(gpt2) == std::vector<std::int32_t>{1, 50256, 65535});

  write_bytes(dir / "llama.bin", llmc_bytes<std::uint32_t>(20240801, 7, 2, {128000, 7}));
  const TokenFile llama(dir / "llama");
  CHECK(llama.dtype() == TokenDType::kU32);
  CHECK(all_ids(llama, 128256) == std::vector<std::int32_t>{128000, 7});
}

TEST_CASE("Broken llm.c files are refused", "[token_file]") {
  const TempDir dir;
  const std::string path = dir / "x.bin";
  const auto error = [&](const std::string& bytes) {
    write_bytes(path, bytes);
    const std::string message = open_error(path);
    CHECK(contains(message, path));
    return message;
  };
  CHECK(contains(error(""), "0 bytes cannot hold the header"));
  CHECK(contains(error(std::string(1023, 'x')), "1023 bytes cannot hold"));
  CHECK(contains(error(llmc_bytes(20240521, 1, 3, kShort)),
                 "offset 0: there is no .idx beside it, and magic 20240521"));
  CHECK(contains(error(llmc_bytes(20240520, 7, 3, kShort)), "offset 4: version 7"));
  CHECK(contains(error(llmc_bytes(20240801, 1, 3, kShort)), "offset 4: version 1"));
  CHECK(contains(error(llmc_bytes(20240520, 1, -3, kShort)), "offset 8: negative"));
  CHECK(contains(error(llmc_bytes(20240520, 1, 4, kShort)), "(truncated?)"));
  CHECK(contains(error(llmc_bytes(20240520, 1, 2, kShort)), "make 1028 bytes, but the file has 1030"));
  CHECK(contains(error(llmc_bytes(20240520, 1, 0x7fffffff, kShort)), "(truncated?)"));
}

TEST_CASE("Missing and odd files are named", "[token_file]") {
  const TempDir dir;
  CHECK(contains(open_error(dir / "none"), "none.idx"));
  write_pair(dir / "t", TokenDType::kU8, {{1, 2, 3}});
  std::filesystem::remove(dir / "t.bin");
  CHECK(contains(open_error(dir / "t"), "t.bin' is missing"));
  write_pair(dir / "u", TokenDType::kU8, {{1, 2, 3}});
  std::filesystem::remove(dir / "u.idx");
  CHECK(contains(open_error(dir / "u"), "there is no .idx beside it"));
  std::filesystem::create_directory(dir / "d");
  CHECK(contains(open_error(dir / "d"), "is not a regular file"));
}

TEST_CASE("Any truncation of either file of a pair is refused", "[token_file]") {
  const TempDir dir;
  std::vector<std::vector<std::int32_t>> documents;
  for (std::int32_t d = 0; d < 300; ++d) documents.push_back(counting(0, d % 17));
  write_pair(dir / "t", TokenDType::kU16, documents);
  for (const char* name : {"t.bin", "t.idx"}) {
    const std::string path = dir / name, whole = read_bytes(path);
    for (std::size_t size = 0; size < whole.size(); size += 97) {
      std::filesystem::resize_file(path, size);
      CHECK(contains(open_error(dir / "t"), "t.idx"));
      write_bytes(path, whole);
    }
    write_bytes(path, whole + 'x');
    open_error(dir / "t");
    write_bytes(path, whole);
  }
  TokenFile still_fine(dir / "t");
}

TEST_CASE("Ids outside the vocabulary are found when they are read", "[token_file]") {
  const TempDir dir;
  write_pair(dir / "t", TokenDType::kI32, {{1, 2, 99, 4}, {100, -7}});
  const TokenFile file(dir / "t");
  std::vector<std::int32_t> out(4);
  file.read(0, out, 100);
  const std::string message = message_of(ExitCode::kData, [&] { file.read(1, out, 100); });
  CHECK(contains(message, "t.bin: offset 16: token 4 has id 100, outside the vocabulary of 100"));
  CHECK(contains(message_of(ExitCode::kData, [&] { file.read(5, std::span(out).first(1), 100); }), "id -7"));
  CHECK_THROWS_AS(file.read(3, out, 100), Error);  // past the end
  CHECK_THROWS_AS(file.read(-1, out, 100), Error);

  std::int64_t wide[] = {3, (std::int64_t{1} << 32) + 3};  // must not be cut to 3
  write_pair(dir / "w", TokenDType::kI64, {{1, 2}});
  write_bytes(dir / "w.bin", std::string(reinterpret_cast<char*>(wide), sizeof(wide)));
  CHECK(contains(message_of(ExitCode::kData, [&] { all_ids(TokenFile(dir / "w")); }), "id 4294967299"));
}

TEST_CASE("A file's hash depends on every sampled byte, on dtype and on documents", "[token_file]") {
  const TempDir dir;
  using enum TokenFile::HashDepth;
  const auto hash = [&](TokenDType dtype, const std::vector<std::vector<std::int32_t>>& documents) {
    write_pair(dir / "t", dtype, documents);
    return TokenFile(dir / "t").hash(kSampled);
  };
  const auto base = hash(TokenDType::kU8, {{1, 2}, {3, 4}});
  CHECK(base == hash(TokenDType::kU8, {{1, 2}, {3, 4}}));
  CHECK(base != hash(TokenDType::kU8, {{1, 2}, {3, 5}}));
  CHECK(base != hash(TokenDType::kU8, {{1}, {2, 3, 4}}));
  CHECK(base != hash(TokenDType::kI8, {{1, 2}, {3, 4}}));

  std::vector<std::int32_t> large(3'000'000, 7);
  const auto whole = hash(TokenDType::kU8, {large});
  for (const std::size_t at : {std::size_t{0}, large.size() - 1}) {  // the ends are always sampled
    large[at] = 8;
    CHECK(hash(TokenDType::kU8, {large}) != whole);
    large[at] = 7;
  }
  large[20'000] = 8;  // between two samples: only the whole hash sees it
  CHECK(hash(TokenDType::kU8, {large}) == whole);
  const auto changed = TokenFile(dir / "t").hash(kWhole);
  large[20'000] = 7;
  write_pair(dir / "t", TokenDType::kU8, {large});
  CHECK(TokenFile(dir / "t").hash(kWhole) != changed);
}

}  // namespace jevons
