// Runs collectives of host tensors on a device communicator: copies in, the collective, copies out. So the
// checks that every back end must pass (tests/parallel/collectives.h) serve this one unchanged.
#pragma once

#include <cstdlib>
#include <functional>
#include <list>
#include <utility>

#include "kernels/core/memory.h"
#include "kernels/core/stream.h"
#include "parallel/communicator.h"

namespace jevons::test {

class RoundTrip final : public Communicator {
 public:
  // `owned` is `device` or null.
  RoundTrip(Communicator& device, std::unique_ptr<Communicator> owned, Stream& stream)
      : Communicator(device.rank(), device.size(), device.name()),
        owned_(std::move(owned)),
        device_(device),
        stream_(stream) {}
  [[noreturn]] void abort(int exit_code) override {
    device_.abort(exit_code);
    std::abort();
  }

 private:
  // A copy of a host tensor on the device.
  struct Mirror {
    Buffer memory;
    Tensor host, device;
  };
  Mirror mirror(const Tensor& host) {
    Mirror m{Buffer(Device::kCuda, host.bytes(), Contents::kUndefined), host, {}};
    m.device = m.memory.view(0, host.shape, host.dtype);
    if (host.bytes() > 0) copy_and_wait(&stream_, m.device, host);
    return m;
  }
  // Copies `result` back once the work is done, and keeps all memory until then.
  struct Trip final : Work::Pending {
    Trip(Stream& on, Work started, std::list<Mirror> all, std::pair<Tensor, Tensor> copy)
        : stream(on), memory(std::move(all)), to_host(copy), work(std::move(started)) {}
    void wait() override {
      work.wait();
      if (to_host.first.bytes() > 0) copy_and_wait(&stream, to_host.first, to_host.second);
    }
    Stream& stream;
    std::list<Mirror> memory;
    std::pair<Tensor, Tensor> to_host;  // host, device
    Work work;
  };
  Work in_place(Tensor inout, const std::function<Work(Tensor)>& collective) {
    std::list<Mirror> all;
    all.push_back(mirror(inout));
    const Tensor device = all.back().device;
    return Work(
        std::make_unique<Trip>(stream_, collective(device), std::move(all), std::pair(inout, device)));
  }
  Work from_to(Tensor in, Tensor out, const std::function<Work(Tensor, Tensor)>& collective) {
    std::list<Mirror> all;
    all.push_back(mirror(in));
    const Tensor from = all.back().device;
    all.push_back(mirror(out));
    const Tensor to = all.back().device;
    return Work(std::make_unique<Trip>(stream_, collective(from, to), std::move(all), std::pair(out, to)));
  }

  Work do_all_reduce(Tensor inout, ReduceOp op) override {
    return in_place(inout, [&](Tensor t) { return device_.all_reduce(t, op); });
  }
  Work do_all_gather(Tensor in, Tensor out, Placement placement) override {
    if (placement == Placement::kInPlace)
      return in_place(out, [&](Tensor t) { return device_.all_gather_in_place(t); });
    return from_to(in, out, [&](Tensor from, Tensor to) { return device_.all_gather(from, to); });
  }
  Work do_reduce_scatter(Tensor in, Tensor out, Placement placement) override {
    if (placement == Placement::kInPlace)
      return in_place(in, [&](Tensor t) { return device_.reduce_scatter_in_place(t); });
    return from_to(in, out, [&](Tensor from, Tensor to) { return device_.reduce_scatter(from, to); });
  }
  Work do_all_to_all_v(Tensor in, std::span<const std::int64_t> send_rows, Tensor out,
                       std::span<const std::int64_t> recv_rows) override {
    return from_to(in, out, [&](Tensor from, Tensor to) {
      return device_.all_to_all_v(from, send_rows, to, recv_rows);
    });
  }
  Work do_broadcast(Tensor inout, int root) override {
    return in_place(inout, [&](Tensor t) { return device_.broadcast(t, root); });
  }
  Work do_send(Tensor in, int peer) override {
    return in_place(in, [&](Tensor t) { return device_.send(t, peer); });
  }
  Work do_recv(Tensor out, int peer) override {
    return in_place(out, [&](Tensor t) { return device_.recv(t, peer); });
  }
  void do_barrier() override { device_.barrier(); }
  std::unique_ptr<Communicator> do_split(std::span<const int> members, int, std::string name) override {
    std::unique_ptr<Communicator> child = device_.split(members, std::move(name));
    Communicator& over = *child;
    return std::make_unique<RoundTrip>(over, std::move(child), stream_);
  }

  std::unique_ptr<Communicator> owned_;
  Communicator& device_;
  Stream& stream_;
};

}  // namespace jevons::test
