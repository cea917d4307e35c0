// Expert dispatch with counts and notes that arrive wrong, impossible settings, and a slow rank.
#include <atomic>
#include <chrono>
#include <thread>

#include "parallel/meta/meta_communicator.h"
#include "tests/parallel/dispatch_fixture.h"
#include "tests/support/catch.h"
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

// Passes everything on, but adds 1 to one element of what its n-th all_to_all_v receives.
class Corrupting final : public Communicator {
 public:
  Corrupting(Communicator& inner, int nth_exchange, std::int64_t element)
      : Communicator(inner.rank(), inner.size(), "ep"),
        inner_(inner),
        nth_(nth_exchange),
        element_(element) {}
  [[noreturn]] void abort(int exit_code) override {
    fail(ExitCode::kFailure, "aborted with code {}", exit_code);
  }

 private:
  Work do_all_to_all_v(Tensor in, std::span<const std::int64_t> send_rows, Tensor out,
                       std::span<const std::int64_t> recv_rows) override {
    inner_.all_to_all_v(in, send_rows, out, recv_rows).wait();
    if (--nth_ == 0 && out.dtype == DType::kI64) ++out.ptr<std::int64_t>()[element_];
    if (nth_ == 0 && out.dtype == DType::kI32) ++out.ptr<std::int32_t>()[element_];
    return {};
  }
  Work do_all_reduce(Tensor t, ReduceOp op) override { return inner_.all_reduce(t, op); }
  Work do_all_gather(Tensor in, Tensor out) override { return inner_.all_gather(in, out); }
  Work do_reduce_scatter(Tensor in, Tensor out) override { return inner_.reduce_scatter(in, out); }
  Work do_broadcast(Tensor t, int root) override { return inner_.broadcast(t, root); }
  Work do_send(Tensor in, int peer) override { return inner_.send(in, peer); }
  Work do_recv(Tensor out, int peer) override { return inner_.recv(out, peer); }
  void do_barrier() override { inner_.barrier(); }
  std::unique_ptr<Communicator> do_split(std::span<const int> members, int, std::string name) override {
    return inner_.split(members, std::move(name));
  }

  Communicator& inner_;
  int nth_;
  std::int64_t element_;
};

// What plan() says when rank 1 of 2 misreads one element of its n-th exchange.
std::string failure_with(int nth_exchange, std::int64_t element) {
  const Batch batch = make_batch({4, 4}, 8, 2, at_random(2, first_experts(8)));
  return failure_of([&] {
    run_ranks(2, [&](Communicator& world) {
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

TEST_CASE("waiting for a slower rank's counts is booked as imbalance", "[dispatch]") {
  const Batch batch = make_batch({4, 4}, 8, 2, at_random(2, first_experts(8)));
  std::atomic<bool> first_is_ready = false;
  double imbalance = 0;
  run_ranks(2, [&](Communicator& ep) {
    Rank rank(ep, batch);
    PhaseClock clock;
    rank.ctx.clock = &clock;
    if (ep.rank() == 0) {
      first_is_ready = true;
    } else {
      while (!first_is_ready) std::this_thread::yield();
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    rank.plan();
    if (ep.rank() == 0) imbalance = clock.seconds()[static_cast<std::size_t>(Phase::kImbalance)];
    ENSURE(clock.current() == Phase::kInit, "the phase before was not taken up again");
  });
  CHECK(imbalance > 0.005);
}

TEST_CASE("experts that do not spread evenly, and indices out of range, are refused", "[dispatch]") {
  MetaCommunicator three(0, 3), one(0, 1);
  const Batch batch = make_batch({2}, 4, 1, [](std::int64_t) { return Indices{4}; });
  CHECK(failure_of([&] {
          TokenDispatcher(three, {.num_experts = 8, .top_k = 2, .layer = "layers.0.moe"});
        }) == "layers.0.moe: 8 experts cannot be spread evenly over ep = 3 workers");
  CHECK(failure_of([&] { Rank(one, batch).plan(); }).find("layers.3.moe: token 0 chose expert 4 of 4") !=
        std::string::npos);
}

}  // namespace jevons::test
