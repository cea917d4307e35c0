#include "data/inspect.h"

#include "tests/data/temp_files.h"

namespace jevons {

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
