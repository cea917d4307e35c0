#include "kernels/core/turns.h"

#include <stdexcept>
#include <string>

#include "tests/support/catch.h"

namespace jevons {

TEST_CASE("turns: two tasks hand over to each other, and the longer one ends alone", "[core][turns]") {
  std::string order;
  const auto task = [&](char name, int steps) {
    return [&order, name, steps](Turns& turns) {
      for (int i = 0; i < steps; ++i) {
        order += name;
        turns.hand_over();
      }
      order += static_cast<char>(name + 'A' - 'a');
    };
  };
  run_in_turns(task('f', 2), task('d', 4), nullptr);
  CHECK(order == "fdfdFddD");
  order.clear();
  run_in_turns(task('f', 3), task('d', 1), nullptr);
  CHECK(order == "fdfDfF");
  order.clear();
  run_in_turns(task('f', 0), task('d', 0), nullptr);
  CHECK(order == "FD");
}

TEST_CASE("turns: what one task throws ends both and is thrown", "[core][turns]") {
  int unwound = 0;
  struct Guard {
    int& count;
    ~Guard() { ++count; }
  };
  const auto waits = [&](Turns& turns) {
    const Guard guard{unwound};
    for (;;) turns.hand_over();
  };
  const auto fails = [&](Turns& turns) {
    const Guard guard{unwound};
    turns.hand_over();
    throw std::runtime_error("broken");
  };
  CHECK_THROWS_WITH(run_in_turns(waits, fails, nullptr), "broken");
  CHECK_THROWS_WITH(run_in_turns(fails, waits, nullptr), "broken");
  CHECK(unwound == 4);
  const auto fails_at_once = [](Turns&) { throw std::runtime_error("at once"); };
  bool ran = false;
  CHECK_THROWS_WITH(run_in_turns(
                        fails_at_once, [&](Turns&) { ran = true; }, nullptr),
                    "at once");
  CHECK_FALSE(ran);
}

TEST_CASE("turns: each task goes on in its own phase", "[core][turns]") {
  PhaseClock clock;
  const auto task = [&](Phase phase) {
    return [&clock, phase](Turns& turns) {
      const PhaseScope scope(&clock, phase);
      for (int i = 0; i < 3; ++i) {
        turns.hand_over();
        if (clock.current() != phase) throw std::runtime_error("in another's phase");
      }
    };
  };
  run_in_turns(task(Phase::kCompute), task(Phase::kDispatch), &clock);
  CHECK(clock.current() == Phase::kInit);
}

}  // namespace jevons
