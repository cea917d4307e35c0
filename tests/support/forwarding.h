// A communicator that passes everything on to another one; those that change something derive from it.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "kernels/core/error.h"
#include "parallel/communicator.h"

namespace jevons::test {

class Forwarding : public Communicator {
 public:
  Forwarding(Communicator& inner, std::string name)
      : Communicator(inner.rank(), inner.size(), std::move(name)), inner_(inner) {}
  [[noreturn]] void abort(int exit_code) override {
    fail(ExitCode::kFailure, "aborted with code {}", exit_code);
  }

 protected:
  Communicator& inner() const { return inner_; }
  Work do_all_to_all_v(Tensor in, std::span<const std::int64_t> send_rows, Tensor out,
                       std::span<const std::int64_t> recv_rows) override {
    return inner_.all_to_all_v(in, send_rows, out, recv_rows);
  }
  Work do_send(Tensor in, int peer) override { return inner_.send(in, peer); }
  Work do_recv(Tensor out, int peer) override { return inner_.recv(out, peer); }
  std::unique_ptr<Communicator> do_split(std::span<const int> members, int, std::string name) override {
    return inner_.split(members, std::move(name));
  }

 private:
  Work do_all_reduce(Tensor t, ReduceOp op) override { return inner_.all_reduce(t, op); }
  Work do_all_gather(Tensor in, Tensor out, Placement placement) override {
    return placement == Placement::kInPlace ? inner_.all_gather_in_place(out) : inner_.all_gather(in, out);
  }
  Work do_reduce_scatter(Tensor in, Tensor out, Placement placement) override {
    return placement == Placement::kInPlace ? inner_.reduce_scatter_in_place(in)
                                            : inner_.reduce_scatter(in, out);
  }
  Work do_broadcast(Tensor t, int root) override { return inner_.broadcast(t, root); }
  void do_barrier() override { inner_.barrier(); }

  Communicator& inner_;
};

}  // namespace jevons::test
