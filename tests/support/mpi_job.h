// This process in a test program that is an MPI job: mpirun -n N test_x "[ranks]". All processes run the same
// cases in the same order; what differs between them ends the job with a message. Standard output is the
// first process's; what the others said follows at the end, of those that failed.
#pragma once

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "parallel/mpi/mpi_session.h"
#include "tests/support/ranks.h"

namespace jevons::test {

class MpiJob {
 public:
  MpiJob();
  ~MpiJob();
  MpiJob(const MpiJob&) = delete;
  MpiJob& operator=(const MpiJob&) = delete;
  // The one of this process; null in a program that mpirun did not start.
  static MpiJob* current();

  // run_packed over the first `size` processes, on threads of the first one if there are not so many. If some
  // ranks fail, the error of the lowest is thrown on all processes, provided that the others end too; a rank
  // that fails while others wait for it ends the job.
  std::vector<std::string> run(int size, const PackedBody& body, double timeout_seconds);
  // The largest `exit_code` of all processes.
  int end(int exit_code);

 private:
  struct Outcome;
  // `mine` of every process. `place` says where this is, and must be the same on all.
  std::vector<std::string> exchange(const std::string& place, const std::string& mine);
  std::vector<std::string> gather(std::string mine);
  std::vector<std::string> results_of(const std::vector<std::string>& outcomes, int size);

  MpiSession session_;
  int runs_ = 0;
  std::FILE* kept_output_ = nullptr;  // of all but the first process
};

}  // namespace jevons::test
