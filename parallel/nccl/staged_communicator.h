// Collectives of device tensors through the hosts, for workers that share a GPU: copy to page-locked memory,
// the collective of the hosts, copy back. Done on return, for the host and for the stream. Private to
// parallel/nccl; others see device_world.h.
#pragma once

#include <memory>
#include <string>

#include "kernels/core/memory.h"
#include "kernels/core/stream.h"
#include "parallel/communicator.h"

namespace jevons::nccl {

class StagedCommunicator final : public Communicator {
 public:
  // `owned` is `hosts` or null.
  StagedCommunicator(Communicator& hosts, std::unique_ptr<Communicator> owned, Stream& compute);
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

  // Page-locked memory of one collective: its contents go back to the device when it is done.
  struct Stage {
    Buffer memory;
    Tensor host;
  };
  Stage stage(const Tensor& device) const;         // contents undefined
  Stage copy_to_host(const Tensor& device) const;  // contents of `device`, done on return
  void copy_back(const Stage& stage, const Tensor& device) const;

  std::unique_ptr<Communicator> owned_hosts_;
  Communicator& hosts_;
  Stream& compute_;
};

}  // namespace jevons::nccl
