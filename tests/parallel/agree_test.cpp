// A failure on some workers becomes one failure on all of them, in the words of the lowest rank that failed.
#include "parallel/agree.h"

#include <set>
#include <string>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/ranks.h"

namespace jevons {
namespace {

struct Outcome {
  bool agreed = false, speaks = false;
  ExitCode code = ExitCode::kOk;
  std::string message;
  auto fields() { return std::tie(agreed, speaks, code, message); }
};

// What each of `size` workers sees when those of `failing` fail, rank r with code 65 + r.
std::vector<Outcome> outcomes(int size, const std::set<int>& failing) {
  return test::run_ranks(size, [&](Communicator& world) -> Outcome {
    try {
      agree(world, [&] {
        if (failing.contains(world.rank())) {
          fail(static_cast<ExitCode>(65 + world.rank()), "rank {} failed", world.rank());
        }
      });
    } catch (const AgreedError& e) {
      return {true, e.speaks(), e.code(), e.what()};
    }
    return {};
  });
}

}  // namespace

TEST_CASE("agree: nothing happens when no worker fails", "[agree][ranks]") {
  for (const Outcome& outcome : outcomes(3, {})) CHECK_FALSE(outcome.agreed);
}

TEST_CASE("agree: all workers fail with the code of the lowest rank that failed, which alone speaks",
          "[agree][ranks]") {
  for (const std::set<int>& failing : {std::set<int>{2}, {1, 3}, {0, 1, 2, 3}}) {
    const std::vector<Outcome> seen = outcomes(4, failing);
    const int lowest = *failing.begin();
    for (int rank = 0; rank < 4; ++rank) {
      const Outcome& outcome = seen[static_cast<std::size_t>(rank)];
      CHECK(outcome.agreed);
      CHECK(outcome.code == static_cast<ExitCode>(65 + lowest));
      CHECK(outcome.speaks == (rank == lowest));
      const std::string named = failing.size() < 4 ? "rank " + std::to_string(lowest) + ": " : "";
      CHECK(outcome.message == named + "rank " + std::to_string(lowest) + " failed");
    }
  }
}

TEST_CASE("agree: other exceptions count as failures; a single worker agrees with itself", "[agree]") {
  test::run_ranks(1, [](Communicator& world) {
    bool thrown = false;
    try {
      agree(world, [] { throw std::runtime_error("odd"); });
    } catch (const AgreedError& e) {
      thrown = e.speaks() && e.code() == ExitCode::kFailure && std::string(e.what()) == "odd";
    }
    ENSURE(thrown, "the error did not arrive");
  });
}

}  // namespace jevons
