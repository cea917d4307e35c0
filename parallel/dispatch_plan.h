// Where the rows of an expert layer go and come from: the bookkeeping of expert dispatch, on the host and
// without communication (picture: docs/moe.md). parallel/token_dispatcher.h does the exchange. Legend: T
// tokens of this rank, K slots per token, E experts, P ranks, e = E / P experts of a rank; slot (t, k) is the
// k-th choice of token t, its flat index t*K + k; R rows of this rank's experts, one per slot received.
// Wire order: by peer, then token, then slot. Expert order: by expert, then source rank, token, slot.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kernels/core/tensor.h"

namespace jevons {

struct DispatchOptions {
  std::int64_t num_experts = 0, top_k = 0;
  double capacity_factor =
      0;  // > 0: at most ceil(factor*T*K/E) slots per expert and source rank, the rest dropped
  bool reduce_at_expert = false;  // a token's rows are summed on the expert's rank before the way home
  std::string layer{};            // for messages: "layers.3.moe"
};

// One micro-batch and layer; made by TokenDispatcher::plan, used by forward and backward. Index tensors live
// in the arena given to plan().
struct DispatchPlan {
  std::int64_t tokens = 0;                             // T
  std::int64_t rows = 0;                               // R
  std::int64_t dropped = 0;                            // slots of this rank's tokens over capacity
  std::vector<std::int64_t> expert_offsets;            // (e+1) into the R rows
  std::vector<std::int64_t> source_offsets;            // (e*P+1) the same, cut by source rank as well
  std::vector<std::int64_t> send_tokens, recv_tokens;  // (P) distinct tokens to and from each rank
  std::vector<std::int64_t> send_slots, recv_slots;    // (P) slots to and from each rank
  Tensor send_index;    // (sum of send_tokens) i32: token of each row that goes out
  Tensor expand;        // (R) i32: received token row of each expert row
  Tensor slot_flat;     // (sum of send_slots) i32: flat index of each slot in wire order
  Tensor row_to_wire;   // (R) i32: wire position of each expert row
  Tensor wire_to_row;   // (R) i32: its inverse
  Tensor slot_row;      // (T, K) i32: where the slot's row is when it has come home, -1 = dropped
  Tensor reduce_index;  // reduce_at_expert: (sum of recv_tokens, K) i32, expert rows of each received token,
                        // -1 = none
  Tensor token_row;     // reduce_at_expert: (T, K) i32, home row of the token's sum from the rank of slot k,
                        // stated at the first slot of that rank, -1 elsewhere
};

// Slots of this rank's tokens. Vectors by rank and expert are always filled, lists by slot not on kMeta.
struct OutgoingSlots {
  std::vector<std::int64_t> tokens, slots;  // (P) to each rank
  std::vector<std::int64_t> load;           // (E) slots for each expert
  std::int64_t dropped = 0;
  std::vector<std::int32_t> send_index, slot_flat, slot_row, token_row;  // as in DispatchPlan
  std::vector<std::int32_t> notes;  // (slots, 2) in wire order: expert of the destination rank, row of its
                                    // token in the message to that rank
};
// indices (T, K), each row K different experts. Throws if an index is not in [0, E).
OutgoingSlots sort_slots(std::span<const std::int32_t> indices, const DispatchOptions& options, int ranks);
// What a balanced router would send: equal load, and as many distinct tokens to a rank as K experts drawn
// without replacement meet on average. Counts only.
OutgoingSlots balanced_slots(std::int64_t tokens, const DispatchOptions& options, int ranks);

struct IncomingSlots {
  std::vector<std::int64_t> tokens, slots;  // (P) from each rank
  std::vector<std::int64_t> load;           // (P, e) slots from each rank for each expert of this rank
};
// The first position of each expert and, at the end, R: (e+1).
std::vector<std::int64_t> expert_offsets(const IncomingSlots& in);
// The first position of each expert's rows from each rank, by expert, then rank, and at the end R: (e*P+1).
std::vector<std::int64_t> source_offsets(const IncomingSlots& in);

// Expert rows of the slots received; lists as in DispatchPlan.
struct ExpertRows {
  std::vector<std::int32_t> expand, wire_to_row, row_to_wire, reduce_index;
};
// notes (R, 2) in wire order, as the senders wrote them. Throws, naming layer, rank and expert, if they do
// not agree with the counts that were announced.
ExpertRows order_rows(const IncomingSlots& in, std::span<const std::int32_t> notes,
                      const DispatchOptions& options);

}  // namespace jevons
