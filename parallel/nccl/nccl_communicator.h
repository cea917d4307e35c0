// The NCCL back end. NCCL carries bytes only: its own sums follow the topology of the machine, so they are
// not in rank order and their bits differ between machines. Sums are made by kernels/ordered_sum.h from
// all ranks' parts, which costs the same bytes on the wire as a ring, and device memory in which a piece of
// every rank's part waits. Private to parallel/nccl; others see device_world.h.
#pragma once

#include <nccl.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/core/memory.h"
#include "kernels/core/stream.h"
#include "parallel/communicator.h"
#include "parallel/nccl/live_links.h"

namespace jevons::nccl {

class NcclCommunicator final : public Communicator {
 public:
  // Over all ranks that have GPUs, those of `hosts`. Collective.
  NcclCommunicator(Communicator& hosts, Stream& compute, std::size_t scratch_bytes);
  ~NcclCommunicator() override;
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

  // Some ranks of `parent`, those of `hosts`.
  NcclCommunicator(std::unique_ptr<Communicator> hosts, const NcclCommunicator& parent);
  void start();
  void connect();

  struct Range {
    std::byte* data;
    std::size_t bytes;
  };
  // One of the messages of a collective, for errors.
  struct Transfer {
    const char* direction;  // "send to", "recv from"
    int peer;
  };
  // A single send or receive that waits.
  struct Deferred {
    Transfer transfer;
    std::function<ncclResult_t()> call;
  };
  class Group;
  std::string place() const;  // "over ep, rank 1 of 4"
  CollectiveCall starting() const;
  static Range elements(const Tensor& tensor, std::int64_t first, std::int64_t n);
  // Unless `result` is success: ends NCCL in this process and throws, naming collective, communicator, rank
  // and peers. `result`: that of NCCL's call for `transfers`, if they are known.
  void check(ncclResult_t result, const char* collective, std::span<const Transfer> transfers = {}) const;
  // Before NCCL is given `collective`: throws if an earlier one has failed meanwhile.
  void begin(const char* collective);
  Work copy_to_self(const Tensor& in, const Tensor& out);
  // Runs `enqueue`, which gives work to stream_, between the work that compute_ has and the work it will get.
  template <class Enqueue>
  Work run(const char* collective, Enqueue enqueue);
  // A single send or receive waits, so that ranks that all send before they receive do not wait for each
  // other for ever: NCCL's calls block their stream. flush() starts those that wait, together. Until then
  // NCCL is told nothing: a group of its calls that stays open takes in those of other communicators too.
  Work defer(Deferred deferred);
  void flush();
  // Sends to(r) to and receives from(r) of every rank r, all at once; empty ranges are left out.
  template <class To, class From>
  void exchange(const char* collective, To to, From from);
  void reduce_slices(Tensor inout, ReduceOp op, std::int64_t first, std::int64_t n);
  // Elements of `dtype` of every rank that fit into the scratch memory together.
  std::int64_t piece_elements(DType dtype) const;
  Tensor scratch(std::int64_t elements, DType dtype);

  std::unique_ptr<Communicator> owned_hosts_;  // null for the world's
  Communicator& hosts_;
  Stream& compute_;
  Stream stream_;  // none for a group of one, as everything of NCCL's
  Event ready_;
  std::size_t most_scratch_;
  std::shared_ptr<LiveLinks> links_;  // of all communicators of the process
  Link& link_;
  Arena scratch_;  // of one sum at a time
  std::vector<Deferred> deferred_;
};

}  // namespace jevons::nccl
