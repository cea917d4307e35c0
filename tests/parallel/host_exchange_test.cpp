// Texts of every rank, and lists of ranks and hosts for people.
#include "parallel/host_exchange.h"

#include "tests/support/catch.h"
#include "tests/support/ranks.h"

namespace jevons {

TEST_CASE("texts of any length reach every rank", "[hosts][ranks]") {
  const auto seen = [](int ranks, std::size_t step) {
    return test::run_ranks(ranks, [=](Communicator& world) {
      return all_gather_texts(world, std::string(step * static_cast<std::size_t>(world.rank()), 'x'));
    });
  };
  const std::vector<std::string> expected = {"", std::string(100, 'x'), std::string(200, 'x')};
  CHECK(seen(3, 100) == std::vector(3, expected));
  CHECK(seen(2, 0) == std::vector(2, std::vector<std::string>{"", ""}));
}

TEST_CASE("hosts are listed with their ranks", "[hosts]") {
  CHECK(list_ranks({3}) == "rank 3");
  CHECK(list_ranks({0, 2, 3, 4, 7}) == "ranks 0, 2-4, 7");
  CHECK(list_hosts({"a", "a"}) == "a (ranks 0-1)");
  CHECK(list_hosts({"a", "b", "a"}) == "a (ranks 0, 2) and b (rank 1)");
  std::vector<std::string> many;
  for (int i = 0; i < 11; ++i) many.push_back("n" + std::to_string(i));
  const std::string text = list_hosts(many);
  CHECK(text.starts_with("n0 (rank 0), n1 (rank 1), "));
  CHECK(text.ends_with("n7 (rank 7) and 3 others"));
}

}  // namespace jevons
