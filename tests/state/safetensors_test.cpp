#include "trainer/io/safetensors.h"

#include "tests/state/scratch.h"
#include "tests/support/catch.h"

namespace jevons::test {
namespace {

// A file with this JSON as its header and `data` zero bytes after it.
std::string file_with(const std::string& json, std::size_t data) {
  std::string bytes(8, '\0');
  for (std::size_t i = 0; i < 8; ++i) bytes[i] = static_cast<char>(json.size() >> (8 * i) & 0xff);
  return bytes + json + std::string(data, '\0');
}

std::string parse_error(const std::string& file) {
  return error_of([&] { parse_safetensors_header(std::as_bytes(std::span(file)), file.size(), "f"); });
}

}  // namespace

TEST_CASE("a safetensors header survives a round trip") {
  SafetensorsHeader header;
  header.metadata = {{"format", "jevons"}};
  header.entries = {{"w@0,4", DType::kF32, {2, 3}, 0, 24}, {"scalar", DType::kBF16, {}, 24, 26}};
  const std::string start = format_safetensors_header(header);
  CHECK(start.size() % 8 == 0);
  const std::string file = start + std::string(26, 'x');
  const auto parsed = parse_safetensors_header(std::as_bytes(std::span(file)), file.size(), "f");
  CHECK(parsed.metadata == header.metadata);
  REQUIRE(parsed.entries.size() == 2);
  CHECK(parsed.entries[0].key == "w@0,4");
  CHECK(parsed.entries[0].shape == std::vector<std::int64_t>{2, 3});
  CHECK(parsed.entries[1].dtype == DType::kBF16);
  CHECK(parsed.entries[1].end == 26);
}

TEST_CASE("headers that lie are refused") {
  const std::string good = R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  CHECK(parse_error(file_with(good, 8)) == "");
  CHECK(parse_error(file_with(R"({})", 0)) == "");
  struct Case {
    const char* json;
    std::size_t data;
    const char* message;
  };
  const auto c = GENERATE(values<Case>({
      {R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 7,
       "tensors take 8 bytes but the file has 7"},
      {R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 9,
       "tensors take 8 bytes but the file has 9"},
      {R"({"w":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", 8, "do not fill"},
      {R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})", 12, "expected 0"},
      {R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", 8, "not a range"},
      {R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0]}})", 8, "not a range"},
      {R"({"w":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", 8, "something else than a size"},
      {R"({"w":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}})", 8, "something else than a size"},
      {R"({"w":{"dtype":"F32","shape":2,"data_offsets":[0,8]}})", 8, "not a list"},
      {R"({"w":{"dtype":"F4","shape":[2],"data_offsets":[0,8]}})", 8, "dtype F4 is not supported"},
      {R"({"w":{"dtype":1,"shape":[2],"data_offsets":[0,8]}})", 8, "needs exactly"},
      {R"({"w":{"dtype":"F32","shape":[2]}})", 8, "needs exactly"},
      {R"({"w":[]})", 8, "needs exactly"},
      // 2^32 * 2^32 elements, and 2^61 elements of 8 bytes: products that wrap to 0.
      {R"({"w":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0, "do not fill"},
      {R"({"w":{"dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,0]}})", 0, "do not fill"},
      {R"({"w":{"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,8]}})", 8, "something else"},
      {R"({"w":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"v":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}})",
       6, "expected 4"},
      {R"({"w":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"w":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})",
       0, "twice"},
      {R"({"w":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}})", 0, "twice"},
      {R"({"__metadata__":{"a":1}})", 0, "not a string"},
      {R"({"__metadata__":[]})", 0, "not an object"},
      {R"([])", 0, "not a JSON object"},
      {R"({"w":)", 0, "not valid JSON"},
      {R"({"w":[[[[[[]]]]]]})", 0, "nested too deeply"},
  }));
  INFO(c.json);
  const std::string message = parse_error(file_with(c.json, c.data));
  CHECK(message.find(c.message) != std::string::npos);
  CHECK(message.rfind("f: ", 0) == 0);
}

TEST_CASE("lengths that lie are refused") {
  CHECK(parse_error("").find("too few") != std::string::npos);
  CHECK(parse_error("1234567").find("too few") != std::string::npos);
  CHECK(parse_error(std::string(8, '\xff')).find("claims 18446744073709551615 bytes") != std::string::npos);
  std::string longer = file_with("{}", 0);
  longer[0] = 3;
  CHECK(parse_error(longer).find("claims 3 bytes") != std::string::npos);
}

}  // namespace jevons::test
