// This process in an MPI job: owned by main(), made before everything else and destroyed after it. mpi.h
// stays inside parallel/mpi. Code is to MPI-3.1. Any error throws Error(kFailure) naming communicator,
// collective and rank; only abort() of the world ends the other ranks, so main() must call it when an error
// escapes.
#pragma once

#include <memory>
#include <string>

#include "parallel/communicator.h"

namespace jevons {

// True when mpirun or srun started this process. A program started by hand may use MetaCommunicator(0, 1)
// instead.
bool started_by_mpi_launcher();

// What the launcher's environment says of this process, before MPI is initialised.
struct LaunchPlace {
  int rank = 0, size = 1;
  std::string job;  // the same for all workers of this start (where the launcher says nothing: of this host)
};
LaunchPlace launch_place();

// Text for people if this process is alone, `world_size` 1, though several were started together; else empty.
std::string alone_by_mistake(int world_size);

// For people; may be asked without a session.
struct MpiFacts {
  std::string library;       // first line of what the library says of itself
  std::string thread_level;  // "serialized"; empty without a session
  std::string host;
};
MpiFacts mpi_facts();

class MpiSession {
 public:
  // Initialises MPI so that one thread at a time may call it. When the node has more ranks than cores,
  // waiting ranks yield their core.
  MpiSession();
  // Finalizes MPI, which waits for the other ranks; not while an exception is on its way to main().
  ~MpiSession();
  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;

  Communicator& world() { return *world_; }
  int local_rank() const { return local_rank_; }  // among the ranks of this node
  int local_size() const { return local_size_; }
  const std::string& host() const { return host_; }

 private:
  std::unique_ptr<Communicator> world_;
  int local_rank_ = 0, local_size_ = 1;
  std::string host_;
};

}  // namespace jevons
