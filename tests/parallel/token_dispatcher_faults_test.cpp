// Expert dispatch with counts and notes that arrive wrong, impossible settings, and a slow rank.
#include <chrono>
#include <thread>

#include "parallel/meta/meta_communicator.h"
#include "tests/parallel/corrupting.h"
#include "tests/parallel/dispatch_fixture.h"
#include "tests/support/catch.h"
#include "tests/support/ranks.h"
#include "tests/support/thread_ranks.h"

namespace jevons::test {
namespace {

std::string failure_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

// What plan() says when rank 1 of 2 misreads one element of its n-th exchange. On threads: the other rank
// goes on and waits, which would end an MPI job.
std::string failure_with(int nth_exchange, std::int64_t element) {
  const Batch batch = make_batch({4, 4}, 8, 2, at_random(2, first_experts(8)));
  return failure_of([&] {
    run_on_threads(2, [&](Communicator& world) {
      Corrupting corrupting(world, world.rank() == 1 ? nth_exchange : -1, element);
      Rank rank(corrupting, batch);
      rank.plan();
    });
  });
}

}  // namespace

TEST_CASE("a count that arrives wrong is found before any payload, by layer, rank and expert", "[dispatch]") {
  // Rank 1 holds experts 4 .. 7 and receives 4 counts and a number of tokens from each rank.
  const std::string expert = failure_with(1, 2);
  INFO(expert);
  CHECK(expert.find("layers.3.moe: rank 0 of ep sends") != std::string::npos);
  CHECK(expert.find("slots for expert 6 to rank 1") != std::string::npos);
  const std::string tokens = failure_with(1, 4);
  INFO(tokens);
  CHECK(tokens.find("distinct tokens to rank 1") != std::string::npos);
}

TEST_CASE("a note that does not fit the counts names layer, rank and expert", "[dispatch]") {
  const std::string message = failure_with(3, 0);  // after counts and echo
  INFO(message);
  CHECK(message.find("layers.3.moe: slot 0 of rank 0 is for expert") != std::string::npos);
}

TEST_CASE("waiting for a slower rank's counts is booked as imbalance", "[dispatch][ranks]") {
  const Batch batch = make_batch({4, 4}, 8, 2, at_random(2, first_experts(8)));
  const auto imbalance = run_ranks(2, [&](Communicator& ep) {
    Rank rank(ep, batch);
    PhaseClock clock;
    rank.ctx.clock = &clock;
    ep.barrier();
    if (ep.rank() == 1) std::this_thread::sleep_for(std::chrono::milliseconds(50));
    rank.plan();
    ENSURE(clock.current() == Phase::kInit, "the phase before was not taken up again");
    return clock.seconds()[static_cast<std::size_t>(Phase::kImbalance)];
  });
  CHECK(imbalance[0] > 0.005);
}

TEST_CASE("experts that do not spread evenly, and indices out of range, are refused", "[dispatch]") {
  MetaCommunicator three(0, 3), one(0, 1);
  const Batch batch = make_batch({2}, 4, 1, [](std::int64_t) { return Indices{4}; });
  CHECK_THAT(
      failure_of([&] { TokenDispatcher(three, {.num_experts = 8, .top_k = 2, .layer = "layers.0.moe"}); }),
      Catch::Matchers::StartsWith("layers.0.moe: 8 experts cannot be spread evenly over ep = 3 workers"));
  CHECK(failure_of([&] { Rank(one, batch).plan(); }).find("layers.3.moe: token 0 chose expert 4 of 4") !=
        std::string::npos);
}

}  // namespace jevons::test
