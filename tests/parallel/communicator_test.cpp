// Collectives over ranks that are threads, their checks, and the failures that the thread back end must
// report.
#include <chrono>
#include <stdexcept>
#include <thread>
#include <vector>

#include "kernels/core/error.h"
#include "kernels/core/whereabouts.h"
#include "parallel/meta/meta_communicator.h"
#include "tests/parallel/collectives.h"
#include "tests/support/catch.h"
#include "tests/support/ranks.h"
#include "tests/support/thread_ranks.h"

namespace jevons {

namespace {

Tensor floats(std::vector<float>& values) {
  return {values.data(), {static_cast<std::int64_t>(values.size())}, DType::kF32, Device::kCpu};
}

// The message of the error that `body` ends with on `ranks` thread ranks.
std::string failure_of(int ranks, const std::function<void(Communicator&)>& body,
                       double timeout_seconds = 60) {
  try {
    test::run_on_threads(ranks, body, timeout_seconds);
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("collectives give the bits of a plain reference", "[communicator][ranks]") {
  const int ranks = GENERATE(1, 2, 3, 4, 8);
  CAPTURE(ranks);
  test::run_ranks(ranks, test::check_reductions);
  test::run_ranks(ranks, test::check_gathers);
  test::run_ranks(ranks, test::check_exchanges);
  test::run_ranks(ranks, test::check_empty_parts);
  test::run_ranks(ranks, test::check_overlaps);
  test::run_ranks(ranks, test::check_split);
  test::run_ranks(ranks, test::check_many_under_way);
}

TEST_CASE("ranks count their collectives alike, however many messages each sends and receives",
          "[communicator][ranks]") {
  using Call = std::pair<std::string, std::int64_t>;  // its name and number
  const auto calls = test::run_ranks(3, [](Communicator& world) {
    Whereabouts whereabouts;
    world.set_whereabouts(&whereabouts);
    const auto rank = static_cast<std::size_t>(world.rank());
    std::vector<float> value(1);
    world.barrier();
    if (rank == 0) {
      for (int peer : {1, 2}) world.recv(floats(value), peer).wait();
    } else {
      world.send(floats(value), 0).wait();
    }
    const WorkerPlace in_message = whereabouts.now();
    world.all_reduce(floats(value)).wait();
    const WorkerPlace in_collective = whereabouts.now();
    world.set_whereabouts(nullptr);
    return std::pair(Call(in_message.collective, in_message.number),
                     Call(in_collective.collective, in_collective.number));
  });
  const std::int64_t messages[] = {2, 1, 1};
  for (std::size_t rank = 0; rank < 3; ++rank) {
    CHECK(calls[rank].first == Call(rank == 0 ? "recv" : "send", messages[rank]));
    CHECK(calls[rank].second == Call("all_reduce", 2));
  }
}

TEST_CASE("wire bytes are those that leave a rank", "[communicator]") {
  const auto counted = [](const std::function<void(Communicator&)>& body) {
    MetaCommunicator world(1, 4);
    WorkMeter meter;
    world.set_listener(&meter);
    body(world);
    return meter[WorkKind::kWire].bytes;
  };
  std::vector<float> part(10), whole(40), other(40);
  const std::vector<std::int64_t> send{5, 20, 15, 0}, recv{0, 20, 10, 10};
  CHECK(counted([&](Communicator& w) { w.all_reduce(floats(whole)).wait(); }) == 2 * 3 * 40.0);
  CHECK(counted([&](Communicator& w) { w.all_gather(floats(part), floats(whole)).wait(); }) == 3 * 40.0);
  CHECK(counted([&](Communicator& w) { w.reduce_scatter(floats(whole), floats(part)).wait(); }) == 3 * 40.0);
  CHECK(counted([&](Communicator& w) { w.all_gather_in_place(floats(whole)).wait(); }) == 3 * 40.0);
  CHECK(counted([&](Communicator& w) { w.reduce_scatter_in_place(floats(whole)).wait(); }) == 3 * 40.0);
  CHECK(counted([&](Communicator& w) { w.all_to_all(floats(whole), floats(other)).wait(); }) == 3 * 40.0);
  CHECK(counted([&](Communicator& w) { w.all_to_all_v(floats(whole), send, floats(other), recv).wait(); }) ==
        20 * 4.0);
  CHECK(counted([&](Communicator& w) { w.broadcast(floats(part), 1).wait(); }) == 3 * 40.0);
  CHECK(counted([&](Communicator& w) { w.broadcast(floats(part), 0).wait(); }) == 0);
  CHECK(counted([&](Communicator& w) { w.send(floats(part), 0).wait(); }) == 40.0);

  MetaCommunicator alone(0, 1);
  WorkMeter meter;
  alone.set_listener(&meter);
  alone.all_reduce(floats(part)).wait();
  CHECK(meter[WorkKind::kWire].calls == 0);
}

TEST_CASE("wrong arguments of a collective are refused", "[communicator]") {
  MetaCommunicator world(0, 2);
  std::vector<float> four(4), other_four(4), five(5), ten(10);
  std::vector<std::uint8_t> bytes(4);
  const Tensor u8{bytes.data(), {4}, DType::kU8, Device::kCpu};
  const std::vector<std::int64_t> short_counts{4}, counts{2, 2}, negative{5, -1}, other{1, 3};
  CHECK_THROWS_AS(world.all_reduce(u8), Error);
  CHECK_THROWS_AS(world.all_reduce(Tensor{}), Error);
  CHECK_THROWS_AS(world.all_gather(floats(four), floats(ten)), Error);
  CHECK_THROWS_AS(world.reduce_scatter(floats(ten), floats(four)), Error);
  CHECK_THROWS_AS(world.all_to_all(floats(five), floats(five)), Error);
  CHECK_THROWS_AS(world.all_gather(u8, floats(ten)), Error);
  CHECK_THROWS_AS(world.all_gather_in_place(floats(five)), Error);
  CHECK_THROWS_AS(world.all_gather_in_place(Tensor{}), Error);
  CHECK_THROWS_AS(world.reduce_scatter_in_place(floats(five)), Error);
  CHECK_THROWS_AS(world.reduce_scatter_in_place(u8), Error);
  CHECK_THROWS_AS(world.all_to_all_v(floats(four), short_counts, floats(other_four), counts), Error);
  CHECK_THROWS_AS(world.all_to_all_v(floats(four), negative, floats(other_four), counts), Error);
  CHECK_THROWS_AS(world.all_to_all_v(floats(five), counts, floats(four), counts), Error);
  CHECK_THROWS_AS(world.all_to_all_v(floats(four), counts, floats(other_four), other), Error);
  CHECK_THROWS_AS(world.broadcast(floats(four), 2), Error);
  CHECK_THROWS_AS(world.send(floats(four), 0), Error);
  CHECK_THROWS_AS(world.recv(floats(four), 2), Error);
  const std::vector<int> twice{0, 0}, foreign{0, 2}, without_me{1};
  CHECK_THROWS_AS(world.split(twice, "x"), Error);
  CHECK_THROWS_AS(world.split(foreign, "x"), Error);
  CHECK_THROWS_AS(world.split(without_me, "x"), Error);
  CHECK_THROWS_AS(MetaCommunicator(2, 2), Error);
}

TEST_CASE("a rank that means in place and one that does not are told so", "[communicator]") {
  const std::string message = failure_of(2, [](Communicator& world) {
    std::vector<float> whole(4), part(2);
    if (world.rank() == 0) {
      world.all_gather_in_place(floats(whole)).wait();
    } else {
      world.all_gather(floats(part), floats(whole)).wait();
    }
  });
  CAPTURE(message);
  CHECK(contains(message, "rank 0 calls all_gather_in_place of 2 f32"));
  CHECK(contains(message, "rank 1 calls all_gather of 2 f32"));
}

TEST_CASE("a group of one copies in to out", "[communicator]") {
  MetaCommunicator alone(0, 1);
  std::vector<float> in{1, 2, 3}, out(3, -1);
  alone.all_gather(floats(in), floats(out)).wait();
  CHECK(out == in);
  out.assign(3, -1);
  alone.reduce_scatter(floats(in), floats(out)).wait();
  CHECK(out == in);
  out.assign(3, -1);
  alone.all_to_all(floats(in), floats(out)).wait();
  CHECK(out == in);
  alone.all_gather_in_place(floats(out)).wait();
  alone.reduce_scatter_in_place(floats(out)).wait();
  CHECK(out == in);
}

TEST_CASE("the meta communicator knows the size of every group", "[communicator]") {
  MetaCommunicator world(5, 2048);
  const std::vector<int> members{1, 5, 9};
  const auto group = world.split(members, "ep");
  CHECK(group->size() == 3);
  CHECK(group->rank() == 1);
  const Tensor in{nullptr, {1000, 7}, DType::kBF16, Device::kMeta},
      out{nullptr, {3000, 7}, DType::kBF16, Device::kMeta};
  group->all_gather(in, out).wait();
  CHECK_THROWS_AS(group->all_gather(out, in), Error);
}

TEST_CASE("a rank that fails releases the others, and its error is the one rethrown", "[communicator]") {
  const std::string message = failure_of(4, [](Communicator& world) {
    if (world.rank() == 2) throw std::runtime_error("rank 2 fell over");
    std::vector<float> values(3);
    world.all_reduce(floats(values)).wait();
  });
  CHECK(message == "rank 2 fell over");
}

TEST_CASE("waiting in recv is released too", "[communicator]") {
  const std::string message = failure_of(2, [](Communicator& world) {
    if (world.rank() == 1) throw std::runtime_error("no letter from me");
    std::vector<float> values(3);
    world.recv(floats(values), 1).wait();
  });
  CHECK(message == "no letter from me");
}

TEST_CASE("the watchdog names the collective and the ranks that did not come", "[communicator]") {
  const std::string message = failure_of(
      4,
      [](Communicator& world) {
        if (world.rank() == 1 || world.rank() == 3) return;
        std::vector<float> values(3);
        world.all_reduce(floats(values)).wait();
      },
      0.2);
  CAPTURE(message);
  CHECK(contains(message, "all_reduce over world"));
  CHECK(contains(message, "for rank(s) 1, 3 "));
  const std::string letter = failure_of(
      2,
      [](Communicator& world) {
        std::vector<float> values(3);
        if (world.rank() == 0) world.recv(floats(values), 1).wait();
      },
      0.2);
  CHECK(contains(letter, "rank 1 sent nothing"));
}

TEST_CASE("collectives that do not match are refused, naming both", "[communicator]") {
  const std::string other_collective = failure_of(2, [](Communicator& world) {
    std::vector<float> values(4), out(8);
    if (world.rank() == 0) {
      world.all_reduce(floats(values)).wait();
    } else {
      world.all_gather(floats(values), floats(out)).wait();
    }
  });
  CAPTURE(other_collective);
  CHECK(contains(other_collective, "rank 0 calls all_reduce of 4 f32"));
  CHECK(contains(other_collective, "rank 1 calls all_gather of 4 f32"));

  const std::string other_size = failure_of(3, [](Communicator& world) {
    std::vector<float> values(world.rank() == 2 ? 5 : 4);
    world.all_reduce(floats(values)).wait();
  });
  CHECK(contains(other_size, "rank 2 calls all_reduce of 5 f32"));

  const std::string other_counts = failure_of(2, [](Communicator& world) {
    const std::vector<std::int64_t> send{1, 3}, recv{1, world.rank() == 0 ? 3 : 2};
    const std::vector<std::int64_t> from_one{3, 1}, to_one{2, 1};
    std::vector<float> in(4), out(static_cast<std::size_t>(world.rank() == 0 ? 4 : 3));
    if (world.rank() == 0) {
      world.all_to_all_v(floats(in), send, floats(out), recv).wait();
    } else {
      world.all_to_all_v(floats(in), from_one, floats(out), to_one).wait();
    }
  });
  CAPTURE(other_counts);
  CHECK(contains(other_counts, "rank 0 sends 3 rows to rank 1, which expects 2"));
}

// Of the ranks of an MPI job, which must end with what rank 1 said. Not a test by itself: see mpi_job_failure
// in tests/CMakeLists.txt.
TEST_CASE("a rank that fails while others wait for it", "[.][failure]") {
  test::run_ranks(2, [](Communicator& world) {
    if (world.rank() == 1) fail(ExitCode::kData, "no data for rank 1");
    world.barrier();
  });
}

TEST_CASE("a failure of one rank that all reach is thrown on all", "[communicator][ranks]") {
  const auto body = [](Communicator& world) {
    world.barrier();
    if (world.rank() == 1) fail(ExitCode::kData, "no data for rank 1");
  };
  try {
    test::run_ranks(2, body);
    FAIL("no error");
  } catch (const Error& error) {
    CHECK(error.code() == ExitCode::kData);
    CHECK(std::string(error.what()) == "no data for rank 1");
  }
  const auto ranks = test::run_ranks(2, [](Communicator& world) { return world.rank(); });  // it goes on
  CHECK(ranks == std::vector<int>{0, 1});
}

TEST_CASE("ranks without the tag that says how they run are refused", "[communicator]") {
  CHECK_THROWS_AS(test::run_ranks(2, [](Communicator&) {}), Error);
  test::run_ranks(1, [](Communicator&) {});
}

TEST_CASE("work that nobody waited for is waited for by its destructor or by an assignment",
          "[communicator]") {
  struct Counted final : Work::Pending {
    explicit Counted(int& count) : waits(count) {}
    void wait() override { ++waits; }
    int& waits;
  };
  int waits = 0;
  {
    const Work dropped(std::make_unique<Counted>(waits));
    Work replaced(std::make_unique<Counted>(waits));
    replaced = Work();
    CHECK(waits == 1);
    Work once(std::make_unique<Counted>(waits));
    once.wait();
    once.wait();
    CHECK(waits == 2);
  }
  CHECK(waits == 3);
}

}  // namespace jevons
