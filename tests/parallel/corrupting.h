// A communicator that makes one mistake.
#pragma once

#include "kernels/core/stream.h"
#include "tests/support/forwarding.h"

namespace jevons::test {

// Passes everything on, but adds 1 to one element of what its n-th all_to_all_v receives.
class Corrupting final : public Forwarding {
 public:
  // `stream` orders the tensors of a GPU.
  Corrupting(Communicator& inner, int nth_exchange, std::int64_t element, const Stream* stream = nullptr)
      : Forwarding(inner, "ep"), nth_(nth_exchange), element_(element), stream_(stream) {}

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
    inner().all_to_all_v(in, send_rows, out, recv_rows).wait();
    if (--nth_ == 0) {
      const Tensor one = out.reshape({out.numel()}).slice(element_, element_ + 1);
      if (out.dtype == DType::kI64) add_one<std::int64_t>(one);
      if (out.dtype == DType::kI32) add_one<std::int32_t>(one);
    }
    return {};
  }

  int nth_;
  std::int64_t element_;
  const Stream* stream_;
};

}  // namespace jevons::test
