// Moves tokens to their experts and back. Dropless unless capacity_factor > 0; a dropped slot comes home as 0
// and takes no gradient. With a capacity every message and every expert's rows have a fixed size, so the host
// waits for no counts (docs/moe.md).
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "kernels/core/context.h"
#include "kernels/figures.h"
#include "kernels/moe/slot_order.h"
#include "parallel/communicator.h"
#include "parallel/dispatch_plan.h"

namespace jevons {

// Two adjoint moves over one plan:
//   out:  (T, D) token rows -> (R, D) rows of this rank's experts. A token bound for several experts on one
//         rank crosses the wire once (a copy rounds nothing).
//   home: (R, D) -> (T, D): one row per slot comes home and is summed there in slot order, so the bits do not
//         depend on ep. With reduce_at_expert the rows of a token are first summed on the expert's rank:
//         fewer bytes, other bits.
// Dispatch forward = out, its backward = home; Combine forward = home, its backward = out. Scalars per slot
// (the router's weights) travel the same way. A group of one has no wire: rows are used where they lie.
class TokenDispatcher {
 public:
  // ep must outlive the dispatcher. Its size must divide num_experts.
  TokenDispatcher(Communicator& ep, DispatchOptions options);

  // indices (T, K) i32 from the router, each row K different experts; they and all lists stay on their
  // device. Collective: exchanges how many slots and tokens go where (waiting for it counts as
  // Phase::kImbalance), has every rank send back what it read, then one note per slot. Throws, naming layer,
  // rank and expert, if what a rank read differs from what was sent, or a note from the counts: at once on
  // the CPU. On a GPU the host waits for the counts alone, without a capacity; what it has not looked at
  // waits for check_reports(). On kMeta routing is assumed balanced. Index tensors are allocated in `arena`.
  DispatchPlan plan(const Context&, Tensor indices, Arena& arena) const;
  // Starts the copy of what plans on a GPU reported to the host; once ctx.stream has passed it,
  // check_reports() throws as plan() does.
  void fetch_reports(const Context&) const;
  void check_reports() const;

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
  };
  SlotRule rule(std::int64_t tokens) const;
  SlotLists allocate_lists(Arena& arena, const SlotRule&, std::int64_t tokens) const;
  void exchange_counts(const Context&, Tensor report) const;
  Exchanged counts_of(const Context&, const SlotPadding&, Tensor indices, Tensor report) const;
  void check_choice(const Context&, Tensor indices) const;
  void check_counts(Tensor report) const;
  void check_notes(Tensor report) const;
  void order_received(const Context&, DispatchPlan&, const SlotPadding&, Tensor notes, Tensor report,
                      Arena&) const;
  Move exchange(const Context&, Tensor rows, const Counts& send_rows, const Counts& recv_rows) const;
  Tensor finish(const Context&, Move&) const;

  Communicator* ep_;
  DispatchOptions options_;
  mutable std::optional<Figures> reports_;  // of plans on a GPU, for check_reports()
};

}  // namespace jevons
