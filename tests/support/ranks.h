// N ranks for a test. In a test program that was started as usual they are threads (thread_ranks.h); in one
// that mpirun started (mpirun -n N test_x "[ranks]") they are its processes (mpi_job.h), and the same bodies
// run over MPI. There every process runs the same cases in the same order, each with memory of its own: so
// what a body finds out it returns, and everyone has the results of all ranks. A case that keeps to this has
// the tag [ranks]; one that cannot has [threads], and its file the reason; without either there are no ranks.
#pragma once

#include <functional>
#include <string>
#include <type_traits>
#include <vector>

#include "parallel/communicator.h"
#include "tests/support/packed.h"

namespace jevons::test {

using PackedBody = std::function<std::string(Communicator& world)>;
// What body(world) gives on each of `size` ranks. Throws the error of a rank that failed.
std::vector<std::string> run_packed(int size, const PackedBody& body, double timeout_seconds);

// Runs body(world) on `size` ranks; returns its results by rank, if it has any. A failure of a rank is thrown
// here. A rank that waits longer than `timeout_seconds` for its peers fails with a message that says where.
// The test framework's assertions are not for bodies: throw there (ENSURE), and check results after.
template <class Body>
auto run_ranks(int size, Body&& body, double timeout_seconds = 60) {
  using Result = std::invoke_result_t<Body&, Communicator&>;
  if constexpr (std::is_void_v<Result>) {
    const auto without_result = [&](Communicator& world) {
      body(world);
      return std::string();
    };
    run_packed(size, without_result, timeout_seconds);
  } else {
    std::vector<Result> results;
    for (const std::string& bytes : run_packed(
             size, [&](Communicator& world) { return packed(body(world)); }, timeout_seconds))
      results.push_back(unpacked<Result>(bytes));
    return results;
  }
}

// The program runs a case with these tags from now on. One without [ranks] or [threads] has no ranks.
void begin_case(const std::string& tags);

// Whether ranks are threads. Their collectives are done when they return.
bool ranks_are_threads();

// Calls `make` once: in an MPI job on the first process, while the others wait; its result, if it has any,
// goes to all. For what processes share: files.
template <class Make>
auto once(Make&& make) {
  if (ranks_are_threads()) return make();
  const auto on_first = [&](Communicator&) { return make(); };
  if constexpr (std::is_void_v<std::invoke_result_t<Make&>>) {
    run_ranks(1, on_first);
  } else {
    return run_ranks(1, on_first).front();
  }
}

}  // namespace jevons::test
