// The MPI back end. Messages carry bytes only: sums are made by reduce_in_rank_order. Large sums and gathers
// among ranks of one node pass through shared memory and are done when they return; the rest is non-blocking.
// Private to parallel/mpi; others see MpiSession.
#pragma once

#include <mpi.h>

#include <memory>
#include <string>

#include "parallel/communicator.h"
#include "parallel/mpi/shared_stage.h"

namespace jevons {

// Over a duplicate of MPI_COMM_WORLD. Collective.
std::unique_ptr<Communicator> make_mpi_world();

class MpiCommunicator final : public Communicator {
 public:
  // Owns `comm`. Collective over it.
  MpiCommunicator(MPI_Comm comm, int rank, int size, std::string name);
  ~MpiCommunicator() override;
  [[noreturn]] void abort(int exit_code) override;

  // Throws unless `code` is MPI_SUCCESS.
  void check(int code, const char* collective) const;

 private:
  Work do_all_reduce(Tensor inout, ReduceOp op) override;
  Work do_all_gather(Tensor in, Tensor out, Placement placement) override;
  Work do_reduce_scatter(Tensor in, Tensor out, Placement placement) override;
  Work do_all_to_all_v(Tensor in, std::span<const std::int64_t> send_rows, Tensor out,
                       std::span<const std::int64_t> recv_rows) override;
  Work do_broadcast(Tensor inout, int root) override;
  Work do_send(Tensor in, int peer) override;
  Work do_recv(Tensor out, int peer) override;
  void do_barrier() override;
  std::unique_ptr<Communicator> do_split(std::span<const int> members, int new_rank,
                                         std::string name) override;

  void staged_all_reduce(Tensor inout, ReduceOp op);
  void staged_all_gather(Tensor in, Tensor out, Placement placement);
  void staged_reduce_scatter(Tensor in, Tensor out);
  Work gathered_all_reduce(Tensor inout, ReduceOp op);
  void scattered_all_reduce(Tensor inout, ReduceOp op);

  // Whether a collective of `bytes` per rank goes through shared memory; the same answer on all ranks.
  bool use_stage(std::size_t bytes) const;
  SharedStage& stage();
  void expect_host(const char* collective, const Tensor& tensor) const;
  // `elements` as a count for MPI; throws when it does not fit one. `what` is the tensor concerned.
  int count_of(std::int64_t elements, const char* collective, const Tensor& what) const;

  MPI_Comm comm_;
  bool one_node_ = false;
  std::unique_ptr<SharedStage> stage_;  // made by the first collective that uses it
};

}  // namespace jevons
