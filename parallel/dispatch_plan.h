// Where the rows of an expert layer go and come from (picture: docs/moe.md), and the counts that the host
// knows of it. kernels/slot_order.h makes the lists, parallel/token_dispatcher.h the exchange. Legend: T
// tokens of this rank, K slots per token, E experts, P ranks, e = E / P experts of a rank; slot (t, k) is the
// k-th choice of token t, its flat index t*K + k; R rows of this rank's experts, one per slot received.
// Wire order: by peer, then token, then slot. Expert order: by expert, then source rank, token, slot.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kernels/moe/slot_order.h"

namespace jevons {

struct DispatchOptions {
  std::int64_t num_experts = 0, top_k = 0;
  // > 0: at most ceil(factor*T*K/E) slots per expert and source rank, the rest dropped; all ranks hold as
  // many tokens, and what a rank sends and computes is padded to what it may be at most (SlotPadding).
  double capacity_factor = 0;
  bool reduce_at_expert = false;  // a token's rows are summed on the expert's rank before the way home
  std::string layer{};            // for messages: "layers.3.moe"
};

// One micro-batch and layer; made by TokenDispatcher::plan, used by forward and backward. Index tensors live
// in the arena given to plan().
struct DispatchPlan {
  std::int64_t tokens = 0;                             // T
  std::int64_t rows = 0;                               // R
  std::vector<std::int64_t> expert_offsets;            // (e+1) into the R rows
  std::vector<std::int64_t> source_offsets;            // (e*P+1) the same, cut by source rank as well
  std::vector<std::int64_t> send_tokens, recv_tokens;  // (P) distinct tokens to and from each rank
  std::vector<std::int64_t> send_slots, recv_slots;    // (P) slots to and from each rank
  // With a capacity -1 stands in empty places of all lists: their rows are 0.
  Tensor send_index;    // (sum of send_tokens) i32: token of each row that goes out
  Tensor expand;        // (R) i32: received token row of each expert row
  Tensor slot_flat;     // (sum of send_slots) i32: flat index of each slot in wire order
  Tensor row_to_wire;   // (R) i32: wire position of each expert row
  Tensor wire_to_row;   // (sum of recv_slots) i32: its inverse
  Tensor slot_row;      // (T, K) i32: where the slot's row is when it has come home, -1 = dropped
  Tensor reduce_index;  // reduce_at_expert: (sum of recv_tokens, K) i32, expert rows of each received token,
                        // -1 = none
  Tensor token_row;     // reduce_at_expert: (T, K) i32, home row of the token's sum from the rank of slot k,
                        // stated at the first slot of that rank, -1 elsewhere
  Tensor dropped;       // with a capacity: (1) i64, slots of this rank's tokens over it
};

// How many slots and distinct tokens go to each rank, or come from it.
struct SlotCounts {
  std::vector<std::int64_t> tokens, slots;  // (P)
  std::vector<std::int64_t> load;           // (P, e): slots for each expert of the receiver
};
// From messages (P, e + 1), as SlotLists::counts.
SlotCounts read_counts(std::span<const std::int64_t> messages, std::int64_t ranks);
// What a balanced router would send without a capacity: equal load, and as many distinct tokens to a rank as
// K experts drawn without replacement meet on average.
SlotCounts balanced_counts(std::int64_t tokens, const DispatchOptions& options, std::int64_t ranks);
// What every rank sends, and receives, with a capacity: padded in full.
SlotCounts padded_counts(const SlotPadding& padding, std::int64_t experts, std::int64_t ranks);
// What this rank receives if every rank sends what it sends.
SlotCounts received_if_alike(const SlotCounts& sent, std::int64_t self);

// Most slots that one expert takes from one rank that holds as many tokens.
std::int64_t capacity(std::int64_t tokens, const DispatchOptions& options);
// The first position of each expert and, at the end, R: (e+1).
std::vector<std::int64_t> expert_offsets(const SlotCounts& received);
// The first position of each expert's rows from each rank, by expert, then rank, and at the end R: (e*P+1).
std::vector<std::int64_t> source_offsets(const SlotCounts& received);

}  // namespace jevons
