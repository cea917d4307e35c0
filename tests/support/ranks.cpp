#include "tests/support/ranks.h"

#include <optional>

#include "kernels/core/error.h"
#include "tests/support/mpi_job.h"
#include "tests/support/thread_ranks.h"

namespace jevons::test {
namespace {

// Of the case that runs. Ranks in programs that do not say which, or in none, are not asked for theirs.
std::optional<std::string> tags_of_case;

bool may_have_ranks() {
  return !tags_of_case || tags_of_case->find("[ranks]") != std::string::npos ||
         tags_of_case->find("[threads]") != std::string::npos;
}

}  // namespace

void begin_case(const std::string& tags) {
  tags_of_case = tags;
}

std::vector<std::string> run_packed(int size, const PackedBody& body, double timeout_seconds) {
  if (MpiJob* const job = MpiJob::current()) return job->run(size, body, timeout_seconds);
  ENSURE(size == 1 || may_have_ranks(), "a case whose ranks can be processes has the tag [ranks]");
  return run_packed_on_threads(size, body, timeout_seconds);
}

bool ranks_are_threads() {
  return MpiJob::current() == nullptr;
}

}  // namespace jevons::test
