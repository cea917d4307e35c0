// Moves tokens to their experts and back. Two adjoint moves over one plan:
//   out:  (T, D) token rows -> (R, D) rows of this rank's experts. A token bound for several experts on one
//   rank crosses
//         the wire once (a copy rounds nothing).
//   home: (R, D) -> (T, D): one row per slot comes home and is summed there in slot order, so the bits do not
//   depend on
//         ep. With reduce_at_expert the rows of a token are first summed on the expert's rank: fewer bytes,
//         other bits.
// Dispatch forward = out, its backward = home; Combine forward = home, its backward = out. Scalars per slot
// (the router's weights) travel the same way. A group of one has no wire: rows are used where they lie.
// Dropless unless capacity_factor > 0; a dropped slot comes home as 0 and takes no gradient.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/core/context.h"
#include "kernels/slot_order.h"
#include "parallel/communicator.h"
#include "parallel/dispatch_plan.h"

namespace jevons {

class TokenDispatcher {
 public:
  // ep must outlive the dispatcher. Throws Error(kUsage) if its size does not divide num_experts.
  TokenDispatcher(Communicator& ep, DispatchOptions options);

  // indices (T, K) i32 from the router, each row K different experts; they and all lists stay on their
  // device. Collective: exchanges how many slots and tokens go where (waiting for it counts as
  // Phase::kImbalance), has every rank send back what it read, and throws, naming layer, rank and expert, if
  // the two differ; then one note per slot. The host waits once, for the counts; so a note that contradicts
  // them is found at once on the CPU, on a GPU by the next plan. On kMeta routing is assumed balanced. Index
  // tensors are allocated in `arena`.
  DispatchPlan plan(const Context&, Tensor indices, Arena& arena) const;

  // A move whose payload is on the wire. Between begin and end the caller may compute. Its rows lie in
  // ctx.work, or are the caller's own.
  struct Move {
    Tensor sent, received;
    Work work;
  };
  Move out_begin(const Context&, const DispatchPlan&, Tensor x_TD) const;
  void out_end(const Context&, const DispatchPlan&, Move, Tensor rows_RD) const;
  Move home_begin(const Context&, const DispatchPlan&, Tensor rows_RD) const;
  void home_end(const Context&, const DispatchPlan&, Move, Tensor y_TD) const;

  // One scalar per slot, accumulator dtype: (T, K) -> (R) and its adjoint.
  void out_scalars(const Context&, const DispatchPlan&, Tensor w_TK, Tensor w_R) const;
  void home_scalars(const Context&, const DispatchPlan&, Tensor dw_R, Tensor dw_TK) const;

  std::int64_t local_experts() const { return options_.num_experts / ep_->size(); }
  // Global index of this rank's first expert.
  std::int64_t first_expert() const { return local_experts() * ep_->rank(); }

 private:
  using Counts = std::vector<std::int64_t>;
  struct Exchanged {
    SlotCounts out, in;
    std::int64_t dropped = 0;
  };
  SlotLists allocate_lists(Arena& arena, std::int64_t tokens) const;
  Exchanged exchange_counts(const Context&, Tensor indices, Tensor ledger) const;
  void check_indices(const Context&, Tensor indices, std::int64_t valid) const;
  void check_echo(std::span<const std::int64_t> sent, std::span<const std::int64_t> echo) const;
  void check_notes(std::span<const std::int64_t> misfit) const;
  void order_received(const Context&, DispatchPlan&, Tensor notes, Tensor announced, Arena&) const;
  Tensor misfit_on(Device) const;
  Move exchange(const Context&, Tensor rows, const Counts& send_rows, const Counts& recv_rows) const;
  Tensor finish(const Context&, Move&) const;

  Communicator* ep_;
  DispatchOptions options_;
  mutable Buffer misfit_;  // RowLists::misfit of the last plan
};

}  // namespace jevons
