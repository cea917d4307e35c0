// A communicator of one process that says it is rank r of n: the dry run's world. Collectives check, count
// their wire bytes and return at once; tensors are left as they are. As MetaCommunicator(0, 1) it is the
// world of a program that was started without MPI.
#pragma once

#include "parallel/communicator.h"

namespace jevons {

class MetaCommunicator final : public Communicator {
 public:
  MetaCommunicator(int rank, int size, std::string name = "world");
  // Ends the process.
  [[noreturn]] void abort(int exit_code) override;

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
};

}  // namespace jevons
