// Sends and receives of pipeline schedules, run over channels that are not there.
#include "parallel/pipeline/lower.h"

#include "tests/parallel/schedules.h"
#include "tests/support/catch.h"

namespace jevons {
namespace {

using namespace test;

int most_slots(const PipelineSchedule& schedule) {
  int most = 0;
  for (const RankProgram& program : lower(schedule)) most = std::max(most, program.inbox_slots);
  return most;
}

}  // namespace

TEST_CASE("slots of the inbox", "[schedule]") {
  const std::array<std::array<int, 4>, 5> slots = {
      {{1, 2, 2, 2}, {3, 4, 4, 6}, {1, 2, 2, 2}, {2, 3, 3, 3}, {2, 4, 4, 4}}};
  for (std::size_t k = 0; k < kKinds.size(); ++k) {
    std::array<int, 4> found{};
    for (int i = 0; i < 4; ++i) {
      const int ranks = 2 << i;
      found[static_cast<std::size_t>(i)] =
          most_slots(generate_schedule(options_of(kKinds[k], ranks, 4 * ranks)));
    }
    INFO(name_of(kKinds[k]));
    CHECK(found == slots[k]);
  }
}

}  // namespace jevons
