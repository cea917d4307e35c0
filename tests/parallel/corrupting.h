// A communicator that makes one mistake.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "kernels/core/error.h"
#include "kernels/core/stream.h"
#include "parallel/communicator.h"

namespace jevons::test {

// Passes everything on, but adds 1 to one element of what its n-th all_to_all_v receives.
class Corrupting final : public Communicator {
 public:
  // `stream` orders the tensors of a GPU.
  Corrupting(Communicator& inner, int nth_exchange, std::int64_t element, const Stream* stream = nullptr)
      : Communicator(inner.rank(), inner.size(), "ep"),
        inner_(inner),
        nth_(nth_exchange),
        element_(element),
        stream_(stream) {}
  [[noreturn]] void abort(int exit_code) override {
    fail(ExitCode::kFailure, "aborted with code {}", exit_code);
  }

 private:
  template <class T>
  void add_one(const Tensor& element) const {
    T value = 0;
    const Tensor host{&value, element.shape, element.dtype, Device::kCpu};
    copy_and_wait(stream_, host, element);
    ++value;
    copy_and_wait(stream_, element, host);
  }
  Work do_all_to_all_v(Tensor in, std::span<const std::int64_t> send_rows, Tensor out,
                       std::span<const std::int64_t> recv_rows) override {
    inner_.all_to_all_v(in, send_rows, out, recv_rows).wait();
    if (--nth_ == 0) {
      const Tensor one = out.reshape({out.numel()}).slice(element_, element_ + 1);
      if (out.dtype == DType::kI64) add_one<std::int64_t>(one);
      if (out.dtype == DType::kI32) add_one<std::int32_t>(one);
    }
    return {};
  }
  Work do_all_reduce(Tensor t, ReduceOp op) override { return inner_.all_reduce(t, op); }
  Work do_all_gather(Tensor in, Tensor out, Placement placement) override {
    return placement == Placement::kInPlace ? inner_.all_gather_in_place(out) : inner_.all_gather(in, out);
  }
  Work do_reduce_scatter(Tensor in, Tensor out, Placement placement) override {
    return placement == Placement::kInPlace ? inner_.reduce_scatter_in_place(in)
                                            : inner_.reduce_scatter(in, out);
  }
  Work do_broadcast(Tensor t, int root) override { return inner_.broadcast(t, root); }
  Work do_send(Tensor in, int peer) override { return inner_.send(in, peer); }
  Work do_recv(Tensor out, int peer) override { return inner_.recv(out, peer); }
  void do_barrier() override { inner_.barrier(); }
  std::unique_ptr<Communicator> do_split(std::span<const int> members, int, std::string name) override {
    return inner_.split(members, std::move(name));
  }

  Communicator& inner_;
  int nth_;
  std::int64_t element_;
  const Stream* stream_;
};

}  // namespace jevons::test
