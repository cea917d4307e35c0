// Collectives over typed tensors. Public methods check shapes and dtypes, count wire bytes, short-cut groups
// of one and call the back end: MPI (parallel/mpi), Meta (parallel/meta, dry run), threads (tests/support),
// NCCL (parallel/nccl). Sums run in rank order on every back end, so their bits do not depend on the back end
// or on message sizes. One host thread issues all collectives of a worker in program order.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "kernels/core/tensor.h"
#include "kernels/core/whereabouts.h"
#include "kernels/core/work_meter.h"
#include "kernels/ordered_sum.h"

namespace jevons {

// Whether a gather or scatter of parts has a tensor for its part apart from the whole, or the part is the
// rank's own within the whole. All ranks of a call choose the same.
enum class Placement : std::uint8_t { kApart, kInPlace };

// A collective under way. wait() returns when its outputs may be read and its inputs reused. Tensors must
// outlive it. The destructor waits if nobody did.
class [[nodiscard]] Work {
 public:
  class Pending {  // a back end's handle
   public:
    virtual ~Pending() = default;
    virtual void wait() = 0;
  };
  Work() = default;  // already done
  explicit Work(std::unique_ptr<Pending> pending) : pending_(std::move(pending)) {}
  Work(Work&&) = default;
  Work& operator=(Work&& other);  // waits for what it held
  ~Work();
  void wait();

 private:
  friend class Communicator;
  std::unique_ptr<Pending> pending_;
  Whereabouts* whereabouts_ = nullptr;
  CollectiveCall call_;  // told to whereabouts_ while wait() waits
};

// Bytes of one row: what an index of dim 0 selects.
std::size_t row_bytes(const Tensor& tensor);

class Communicator {
 public:
  virtual ~Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  const std::string& name() const { return name_; }  // "world", "stage", ...: used in messages
  // Learns of the wire bytes of every call; null stops that. It must outlive them.
  void set_listener(WorkListener* listener) { listener_ = listener; }
  // Learns of every call that this rank enters and leaves; null stops that. It must outlive them.
  void set_whereabouts(Whereabouts* whereabouts) { whereabouts_ = whereabouts; }
  Whereabouts* whereabouts() const { return whereabouts_; }

  // f32, f64, bf16 (summed in fp32, rounded once), i32, i64. Wrong shapes, dtypes or counts, and an `in` that
  // overlaps `out`, throw Error(kFailure) naming communicator, collective and rank. Wire bytes counted are
  // those that leave this rank: in a group of n, 2(n-1)/n of the tensor for all_reduce, n-1 times the part of
  // a rank for all_gather and reduce_scatter.
  Work all_reduce(Tensor inout, ReduceOp op = ReduceOp::kSum);
  // out (size * numel of in), by rank. In place, a rank's input is its own part of `inout`.
  Work all_gather(Tensor in, Tensor out);
  Work all_gather_in_place(Tensor inout);
  // in (size * numel of out); out = sum over ranks of their part for this rank. In place, a rank's output is
  // its own part of `inout`; the other parts stay as they are.
  Work reduce_scatter(Tensor in, Tensor out);
  Work reduce_scatter_in_place(Tensor inout);
  // Equal parts of in to every rank.
  Work all_to_all(Tensor in, Tensor out);
  // A row is what one index of dim 0 selects. send_rows[r] consecutive rows of `in` go to rank r;
  // recv_rows[r] rows come from it; together they are all rows of in and out. Counts are on the host and must
  // agree pairwise.
  Work all_to_all_v(Tensor in, std::span<const std::int64_t> send_rows, Tensor out,
                    std::span<const std::int64_t> recv_rows);
  Work broadcast(Tensor inout, int root);
  Work send(Tensor in, int peer);
  Work recv(Tensor out, int peer);
  void barrier();

  // Collective over `members`, distinct ranks of this communicator with this one among them: they form a new
  // one, ranked in this order. It inherits listener and whereabouts. Ranks outside `members` need not call.
  std::unique_ptr<Communicator> split(std::span<const int> members, std::string name);
  // Ends the whole job with `exit_code`; does not return. Called by main() when an error escaped.
  [[noreturn]] virtual void abort(int exit_code) = 0;

 protected:
  Communicator(int rank, int size, std::string name) : rank_(rank), size_(size), name_(std::move(name)) {}

 private:
  virtual Work do_all_reduce(Tensor inout, ReduceOp op) = 0;
  // In place, `in` is this rank's part of `out`; else they do not overlap.
  virtual Work do_all_gather(Tensor in, Tensor out, Placement placement) = 0;
  // In place, `out` is this rank's part of `in`; else they do not overlap.
  virtual Work do_reduce_scatter(Tensor in, Tensor out, Placement placement) = 0;
  virtual Work do_all_to_all_v(Tensor in, std::span<const std::int64_t> send_rows, Tensor out,
                               std::span<const std::int64_t> recv_rows) = 0;
  virtual Work do_broadcast(Tensor inout, int root) = 0;
  virtual Work do_send(Tensor in, int peer) = 0;
  virtual Work do_recv(Tensor out, int peer) = 0;
  virtual void do_barrier() = 0;
  // This rank is members[new_rank].
  virtual std::unique_ptr<Communicator> do_split(std::span<const int> members, int new_rank,
                                                 std::string name) = 0;

  void check_tensors(const char* collective, const Tensor& in, const Tensor& out) const;
  void check_apart(const char* collective, const Tensor& in, const Tensor& out) const;
  void check_reducible(const char* collective, const Tensor& tensor) const;
  void check_peer(const char* collective, int peer) const;
  Tensor own_part(const char* collective, const Tensor& whole) const;
  void count_wire(const char* collective, double bytes);
  // The call of the back end, as the place where this rank is until it and its Work are done.
  template <class Start>
  Work follow(const char* name, std::int64_t number, int peer, Start start);

  int rank_, size_;
  std::string name_;
  WorkListener* listener_ = nullptr;
  Whereabouts* whereabouts_ = nullptr;
  std::int64_t collectives_ = 0, messages_ = 0;  // calls so far; of sends and recvs together
};

}  // namespace jevons
