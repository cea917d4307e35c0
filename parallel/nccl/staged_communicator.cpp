#include "parallel/nccl/staged_communicator.h"

#include <cstdlib>
#include <utility>

namespace jevons::nccl {

StagedCommunicator::StagedCommunicator(Communicator& hosts, std::unique_ptr<Communicator> owned,
                                       Stream& compute)
    : Communicator(hosts.rank(), hosts.size(), hosts.name()),
      owned_hosts_(std::move(owned)),
      hosts_(hosts),
      compute_(compute) {}

void StagedCommunicator::abort(int exit_code) {
  hosts_.abort(exit_code);
  std::abort();  // unreached, which the compiler does not see through a virtual call
}

StagedCommunicator::Stage StagedCommunicator::stage(const Tensor& device) const {
  Stage stage{Buffer::pinned_for(Device::kCuda, device.bytes()), {}};
  stage.host = stage.memory.view(0, device.shape, device.dtype);
  return stage;
}

StagedCommunicator::Stage StagedCommunicator::copy_to_host(const Tensor& device) const {
  Stage copy = stage(device);
  copy_async(&compute_, copy.host, device);
  compute_.synchronise();
  return copy;
}

// The memory is freed on return, so the copy must be done.
void StagedCommunicator::copy_back(const Stage& stage, const Tensor& device) const {
  copy_async(&compute_, device, stage.host);
  compute_.synchronise();
}

Work StagedCommunicator::do_all_reduce(Tensor inout, ReduceOp op) {
  if (inout.device == Device::kCpu) return hosts_.all_reduce(inout, op);
  const Stage staged = copy_to_host(inout);
  hosts_.all_reduce(staged.host, op).wait();
  copy_back(staged, inout);
  return {};
}

// On the hosts input and output are apart, whatever they are on the device.
Work StagedCommunicator::do_all_gather(Tensor in, Tensor out, Placement placement) {
  if (in.device == Device::kCpu)
    return placement == Placement::kInPlace ? hosts_.all_gather_in_place(out) : hosts_.all_gather(in, out);
  const Stage from = copy_to_host(in), to = stage(out);
  hosts_.all_gather(from.host, to.host).wait();
  copy_back(to, out);
  return {};
}

Work StagedCommunicator::do_reduce_scatter(Tensor in, Tensor out, Placement placement) {
  if (in.device == Device::kCpu) {
    return placement == Placement::kInPlace ? hosts_.reduce_scatter_in_place(in)
                                            : hosts_.reduce_scatter(in, out);
  }
  const Stage from = copy_to_host(in), to = stage(out);
  hosts_.reduce_scatter(from.host, to.host).wait();
  copy_back(to, out);
  return {};
}

Work StagedCommunicator::do_all_to_all_v(Tensor in, std::span<const std::int64_t> send_rows, Tensor out,
                                         std::span<const std::int64_t> recv_rows) {
  if (in.device == Device::kCpu) return hosts_.all_to_all_v(in, send_rows, out, recv_rows);
  const Stage from = copy_to_host(in), to = stage(out);
  hosts_.all_to_all_v(from.host, send_rows, to.host, recv_rows).wait();
  copy_back(to, out);
  return {};
}

Work StagedCommunicator::do_broadcast(Tensor inout, int root) {
  if (inout.device == Device::kCpu) return hosts_.broadcast(inout, root);
  const Stage staged = copy_to_host(inout);
  hosts_.broadcast(staged.host, root).wait();
  if (rank() != root) copy_back(staged, inout);
  return {};
}

namespace {

// A send under way, and the memory that it reads.
struct StagedSend final : Work::Pending {
  StagedSend(Buffer stage, Work sent) : memory(std::move(stage)), work(std::move(sent)) {}
  void wait() override { work.wait(); }
  Buffer memory;
  Work work;
};

}  // namespace

Work StagedCommunicator::do_send(Tensor in, int peer) {
  if (in.device == Device::kCpu) return hosts_.send(in, peer);
  Stage from = copy_to_host(in);
  Work sent = hosts_.send(from.host, peer);
  return Work(std::make_unique<StagedSend>(std::move(from.memory), std::move(sent)));
}

Work StagedCommunicator::do_recv(Tensor out, int peer) {
  if (out.device == Device::kCpu) return hosts_.recv(out, peer);
  const Stage to = stage(out);
  hosts_.recv(to.host, peer).wait();
  copy_back(to, out);
  return {};
}

void StagedCommunicator::do_barrier() {
  compute_.synchronise();
  hosts_.barrier();
}

std::unique_ptr<Communicator> StagedCommunicator::do_split(std::span<const int> members, int,
                                                           std::string name) {
  std::unique_ptr<Communicator> hosts = hosts_.split(members, std::move(name));
  Communicator& over = *hosts;
  return std::make_unique<StagedCommunicator>(over, std::move(hosts), compute_);
}

}  // namespace jevons::nccl
