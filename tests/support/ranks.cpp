#include "tests/support/ranks.h"

#include "tests/support/mpi_job.h"
#include "tests/support/thread_ranks.h"

namespace jevons::test {

std::vector<std::string> run_packed(int size, const PackedBody& body, double timeout_seconds) {
  if (MpiJob* const job = MpiJob::current()) return job->run(size, body, timeout_seconds);
  return run_packed_on_threads(size, body, timeout_seconds);
}

bool ranks_are_threads() {
  return MpiJob::current() == nullptr;
}

}  // namespace jevons::test
