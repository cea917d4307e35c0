#include "data/token_index.h"

#include <limits>

#include "tests/data/temp_files.h"

namespace jevons {
namespace {

template <class T>
void put(std::string& bytes, T value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

// The fields of an .idx, right or wrong, written by this test alone and not by TokenWriter.
struct Fields {
  std::string magic{kIdxMagic, sizeof(kIdxMagic)};
  std::uint64_t version = 1;
  std::uint8_t dtype = 8;
  std::uint64_t sequences = 4, borders = 4;
  std::vector<std::int32_t> sizes = {3, 0, 5, 2};
  std::vector<std::int64_t> pointers = {0, 6, 6, 16};
  std::vector<std::int64_t> documents = {0, 1, 3, 4};

  std::string bytes() const {
    std::string out = magic;
    put(out, version), put(out, dtype), put(out, sequences), put(out, borders);
    for (const auto x : sizes) put(out, x);
    for (const auto x : pointers) put(out, x);
    for (const auto x : documents) put(out, x);
    return out;
  }
};
constexpr std::uint64_t kBinSize = 20;

TokenIndex parse(const std::string& bytes, std::uint64_t bin_size = kBinSize) {
  return parse_idx(std::as_bytes(std::span(bytes)), bin_size, "x.idx");
}

std::string error_of(const std::string& bytes, std::uint64_t bin_size = kBinSize) {
  const std::string message = message_of(ExitCode::kData, [&] { parse(bytes, bin_size); });
  CHECK(contains(message, "x.idx"));
  return message;
}

std::string error_of(const Fields& fields) {
  return error_of(fields.bytes());
}

}  // namespace

TEST_CASE("An .idx is read as Megatron lays it out", "[token_index]") {
  const std::string bytes = Fields().bytes();
  const TokenIndex index = parse(bytes);
  CHECK(index.dtype() == TokenDType::kU16);
  CHECK(index.num_tokens() == 10);
  CHECK(index.num_sequences() == 4);
  CHECK(index.num_documents() == 3);
  std::vector<std::int64_t> begins, borders;
  for (std::int64_t d = 0; d <= 3; ++d) begins.push_back(index.document_begin(d));
  CHECK(begins ==
        std::vector<std::int64_t>{0, 3, 8, 10});  // the second document has sequences of 0 and 5 tokens
  for (std::int64_t t = -1; t < 10; ++t) borders.push_back(index.next_border(t));
  CHECK(borders == std::vector<std::int64_t>{0, 3, 3, 3, 8, 8, 8, 8, 8, 10, 10});
}

TEST_CASE("An .idx without documents is valid", "[token_index]") {
  Fields fields;
  fields.sequences = 0, fields.borders = 1;
  fields.sizes.clear(), fields.pointers.clear(), fields.documents = {0};
  const std::string bytes = fields.bytes();
  const TokenIndex index = parse(bytes, 0);
  CHECK(index.num_tokens() == 0);
  CHECK(index.num_documents() == 0);
  CHECK(index.next_border(0) == 0);
  CHECK(contains(error_of(bytes, 1), "the .bin has 1"));
}

TEST_CASE("Every wrong field of an .idx is named", "[token_index]") {
  const auto with = [](auto change) {
    Fields fields;
    change(fields);
    return error_of(fields);
  };
  CHECK(contains(with([](Fields& f) { f.magic[3] = 'X'; }), "offset 0: not a Megatron .idx"));
  CHECK(contains(with([](Fields& f) { f.version = 2; }), "offset 9: version 2"));
  CHECK(contains(with([](Fields& f) { f.dtype = 6; }), "offset 17: dtype code 6 is floating point"));
  CHECK(contains(with([](Fields& f) { f.dtype = 0; }), "offset 17: unknown dtype code 0"));
  CHECK(contains(with([](Fields& f) { f.dtype = 9; }), "offset 17: unknown dtype code 9"));
  CHECK(contains(with([](Fields& f) { f.borders = 0; }), "offset 26: document count 0"));
  CHECK(contains(with([](Fields& f) { f.sizes[1] = -1; }), "offset 38: sequence 1 has -1 tokens"));
  CHECK(contains(with([](Fields& f) { f.pointers[2] = 8; }), "offset 66: sequence 2"));
  CHECK(contains(with([](Fields& f) { f.pointers[0] = 2; }), "offset 50: sequence 0"));
  CHECK(contains(with([](Fields& f) { f.pointers[1] = -6; }), "byte -6"));
  CHECK(contains(with([](Fields& f) { f.documents[0] = 1; }), "offset 82: the first document"));
  CHECK(contains(with([](Fields& f) {
                   f.documents = {0, 3, 1, 4};
                 }),
                 "offset 98: document 2 begins at sequence 1"));
  CHECK(contains(with([](Fields& f) { f.documents[2] = 5; }), "offset 98: document 2"));
  CHECK(contains(with([](Fields& f) { f.documents[3] = 3; }), "ends at sequence 3 of 4"));
  CHECK(
      contains(with([](Fields& f) { f.sizes[3] = 3; }), "cover 22 bytes, but the .bin has 20 (truncated?)"));
  CHECK(contains(with([](Fields& f) { f.sizes[3] = 1; }), "cover 18 bytes, but the .bin has 20"));
}

TEST_CASE("Counts that overflow are refused before they are used", "[token_index]") {
  const std::uint64_t giants[] = {
      std::numeric_limits<std::uint64_t>::max(),
      std::numeric_limits<std::uint64_t>::max() / 4 + 2,  // x 4 wraps to a small number
      std::numeric_limits<std::uint64_t>::max() / 8 + 2,
      std::uint64_t{1} << 63,
      std::uint64_t{1} << 61,
      1000};
  for (const std::uint64_t giant : giants) {
    Fields fields;
    fields.sequences = giant;
    CHECK(contains(error_of(fields), "offset 34: sequence sizes need " + std::to_string(giant)));
    fields.sequences = 4;
    fields.borders = giant;
    CHECK(contains(error_of(fields), "offset 82: documents need " + std::to_string(giant)));
  }
}

TEST_CASE("An .idx of any other length is refused", "[token_index]") {
  const std::string bytes = Fields().bytes();
  for (std::size_t size = 0; size < bytes.size(); ++size) error_of(bytes.substr(0, size));
  CHECK(contains(error_of(bytes + "1234"), "offset 114: 4 bytes after the last document"));
}

TEST_CASE("A flipped bit anywhere in an .idx is an error or another valid index", "[token_index]") {
  const std::string bytes = Fields().bytes();
  std::vector<std::size_t> accepted;  // offsets at which a flip passes
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string flipped = bytes;
      flipped[at] = static_cast<char>(flipped[at] ^ (1 << bit));
      try {
        const TokenIndex index = parse(flipped);
        accepted.push_back(at);
        CHECK(index.num_tokens() * static_cast<std::int64_t>(size_of(index.dtype())) == kBinSize);
      } catch (const Error& error) {
        CHECK(error.code() == ExitCode::kData);
      }
    }
  }
  // Only documents' borders, which may lie at any sequence, can change unseen: every other field is checked
  // by another.
  for (const std::size_t at : accepted) CHECK(at >= 82);
}

}  // namespace jevons
