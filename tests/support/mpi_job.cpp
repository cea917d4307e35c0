#include "tests/support/mpi_job.h"

#include <mpi.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <numeric>
#include <optional>
#include <thread>

#include "kernels/core/error.h"
#include "tests/support/catch.h"
#include "tests/support/thread_ranks.h"

namespace jevons::test {
namespace {

MpiJob* the_job = nullptr;

// Seconds that processes may be apart, and that a rank which failed waits for the others' end.
constexpr double kApart = 240, kAfterFailure = 10;
// Processes share cores, so they take longer than threads that time out.
constexpr double kShortestTimeout = 120;

[[noreturn]] void end_process(const std::string& message) {
  fmt::print(stderr, "{}\n", message);
  std::_Exit(static_cast<int>(ExitCode::kFailure));  // mpirun ends the others
}

// Ends the process, and with it the job, if this object lives longer than `seconds`.
class Watch {
 public:
  Watch(double seconds, std::function<std::string()> message)
      : thread_([this, seconds, message = std::move(message)] {
          std::unique_lock lock(mutex_);
          const std::chrono::duration<double> limit(seconds);
          if (!changed_.wait_for(lock, limit, [this] { return ended_; })) end_process(message());
        }) {}
  ~Watch() {
    {
      const std::lock_guard lock(mutex_);
      ended_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool ended_ = false;
  std::thread thread_;  // last: it uses the others
};

// Without taking a core from those that are waited for, as MPI's own waiting would.
void await(MPI_Request request) {
  int done = 0;
  for (useconds_t pause = 0; done == 0; pause = std::min<useconds_t>(pause + 20, 2000)) {
    MPI_Test(&request, &done, MPI_STATUS_IGNORE);
    if (done == 0) usleep(pause);
  }
}

std::string where(const Whereabouts& whereabouts) {
  const WorkerPlace place = whereabouts.now();
  return place.collective.empty() ? "before any collective"
                                  : fmt::format("{} {} {} over {}", place.in_collective ? "in" : "after",
                                                place.collective, place.number, place.over);
}

}  // namespace

// What a body's end was on one process; empty on those that were no rank.
struct MpiJob::Outcome {
  bool failed = false;
  int code = 0;      // of an Error, else 0
  std::string text;  // result or message
  auto fields() { return std::tie(failed, code, text); }

  static Outcome of(Communicator& world, const PackedBody& body) {
    try {
      return {false, 0, body(world)};
    } catch (const Error& error) {
      return {true, static_cast<int>(error.code()), error.what()};
    } catch (const std::exception& error) {
      return {true, 0, error.what()};
    } catch (...) {
      return {true, 0, "an assertion of the test framework failed"};
    }
  }
};

MpiJob::MpiJob() {
  ENSURE(the_job == nullptr, "a second job");
  the_job = this;
  if (session_.world().rank() == 0) return;
  kept_output_ = std::tmpfile();
  ENSURE(kept_output_ != nullptr && dup2(fileno(kept_output_), STDOUT_FILENO) >= 0, "no file for output");
}

MpiJob::~MpiJob() {
  if (kept_output_ != nullptr) std::fclose(kept_output_);
  the_job = nullptr;
}

MpiJob* MpiJob::current() {
  return the_job;
}

std::vector<std::string> MpiJob::gather(std::string mine) {
  const int ranks = session_.world().size();
  std::vector<std::int64_t> lengths(static_cast<std::size_t>(ranks));
  const auto length = static_cast<std::int64_t>(mine.size());
  MPI_Request request = MPI_REQUEST_NULL;
  MPI_Iallgather(&length, 1, MPI_INT64_T, lengths.data(), 1, MPI_INT64_T, MPI_COMM_WORLD, &request);
  await(request);
  const auto longest = static_cast<std::size_t>(*std::ranges::max_element(lengths));
  mine.resize(longest + 1);
  std::string all(static_cast<std::size_t>(ranks) * mine.size(), '\0');
  const int count = static_cast<int>(mine.size());
  MPI_Iallgather(mine.data(), count, MPI_BYTE, all.data(), count, MPI_BYTE, MPI_COMM_WORLD, &request);
  await(request);
  std::vector<std::string> parts;
  for (std::size_t r = 0; r < lengths.size(); ++r)
    parts.push_back(all.substr(r * mine.size(), static_cast<std::size_t>(lengths[r])));
  return parts;
}

std::vector<std::string> MpiJob::exchange(const std::string& place, const std::string& mine) {
  const int rank = session_.world().rank();
  const Watch watch(kApart, [=] {
    return fmt::format("process {} has waited {} s for the others at the {}", rank, kApart, place);
  });
  std::vector<std::string> texts;
  for (const std::string& bytes : gather(packed(std::pair(place, mine)))) {
    auto [there, text] = unpacked<std::pair<std::string, std::string>>(bytes);
    if (there != place)
      end_process(
          fmt::format("process {} is at the {}, process {} at the {}", rank, place, texts.size(), there));
    texts.push_back(std::move(text));
  }
  return texts;
}

std::vector<std::string> MpiJob::run(int size, const PackedBody& body, double timeout_seconds) {
  Communicator& world = session_.world();
  const std::string place = fmt::format("run {} of {} ranks, in \"{}\"", ++runs_, size,
                                        Catch::getResultCapture().getCurrentTestName());
  exchange("beginning of " + place, "");

  Whereabouts whereabouts;
  std::unique_ptr<Communicator> group;
  Outcome mine;
  {
    const double limit = std::max(timeout_seconds, kShortestTimeout);
    const Watch watch(limit, [&, rank = world.rank()] {
      return fmt::format("rank {} is still, after {} s, {}; {}", rank, limit, where(whereabouts), place);
    });
    if (size > world.size()) {
      const auto on_threads = [&](Communicator&) {
        return packed(run_packed_on_threads(size, body, timeout_seconds));
      };
      if (world.rank() == 0) mine = Outcome::of(world, on_threads);
    } else if (world.rank() < size) {
      std::vector<int> members(static_cast<std::size_t>(size));
      std::iota(members.begin(), members.end(), 0);
      group = world.split(members, "world");
      group->set_whereabouts(&whereabouts);
      mine = Outcome::of(*group, body);
    }
  }
  std::optional<Watch> others;
  if (mine.failed) {
    others.emplace(kAfterFailure, [=, rank = world.rank()] {
      return fmt::format("rank {} failed and others wait for it, in {}: {}", rank, place, mine.text);
    });
  }
  const std::vector<std::string> outcomes = exchange("end of " + place, packed(mine));
  others.reset();
  const bool failed = std::ranges::any_of(
      outcomes, [](const std::string& outcome) { return unpacked<Outcome>(outcome).failed; });
  if (group != nullptr) {
    group->set_whereabouts(nullptr);
    if (failed) group.release();  // what a body left under way stays so
  }
  return results_of(outcomes, size);
}

std::vector<std::string> MpiJob::results_of(const std::vector<std::string>& outcomes, int size) {
  std::vector<std::string> results;
  for (const std::string& bytes : outcomes) {
    const auto outcome = unpacked<Outcome>(bytes);
    if (outcome.failed && outcome.code != 0) throw Error(static_cast<ExitCode>(outcome.code), outcome.text);
    if (outcome.failed) throw std::runtime_error(outcome.text);
    results.push_back(outcome.text);
  }
  if (size > session_.world().size()) return unpacked<std::vector<std::string>>(results.front());
  results.resize(static_cast<std::size_t>(size));
  return results;
}

int MpiJob::end(int exit_code) {
  std::string said;
  std::fflush(stdout);
  if (kept_output_ != nullptr && exit_code != 0) {
    std::rewind(kept_output_);
    for (int c = std::fgetc(kept_output_); c != EOF; c = std::fgetc(kept_output_))
      said.push_back(static_cast<char>(c));
  }
  const std::vector<std::string> all = exchange("end", packed(std::pair(exit_code, said)));
  for (std::size_t r = 0; r < all.size(); ++r) {
    const auto [code, output] = unpacked<std::pair<int, std::string>>(all[r]);
    exit_code = std::max(exit_code, code);
    if (session_.world().rank() == 0 && !output.empty()) fmt::print("process {}:\n{}\n", r, output);
  }
  return exit_code;
}

}  // namespace jevons::test
