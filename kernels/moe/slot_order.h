// The order in which the slots of a routing travel to their experts, and in which they lie there (picture:
// docs/moe.md). Indices and counts stay on the device. Legend: T tokens of this rank, K slots per token, slot
// (t, k) has flat index t*K + k, N = T*K; E experts on P ranks, e = E / P experts of a rank; R slots
// received. Wire order: by rank, then token, then slot. Expert order: by expert, then source rank, token,
// slot. Both lie packed, or, with a capacity, padded to fixed sizes.
#pragma once

#include <cstdint>
#include <limits>

#include "kernels/core/context.h"

namespace jevons {

inline constexpr std::int64_t kNoCapacity = std::numeric_limits<std::int64_t>::max();

struct SlotRule {
  std::int64_t experts = 0;
  std::int64_t ranks = 1;               // divides experts
  std::int64_t capacity = kNoCapacity;  // slots that one expert takes at most; later ones are dropped
};

// What is set aside with a capacity C, whoever fills it: then all sizes are known before the counts are.
struct SlotPadding {
  std::int64_t capacity = kNoCapacity;  // C: rows of one source rank for one expert
  std::int64_t slots = 0;               // A: slots of one rank for another, min(e C, T min(K, e))
  std::int64_t tokens = 0;              // B: distinct tokens of one rank for another, min(A, T)

  constexpr bool fixed() const { return capacity != kNoCapacity; }
};
// All of it open without a capacity.
SlotPadding padding_of(const SlotRule&, std::int64_t tokens, std::int64_t top_k);
// How long the lists below can get.
std::int64_t max_sent_tokens(const SlotRule&, std::int64_t tokens, std::int64_t top_k);  // P B or T min(K, P)
std::int64_t max_sent_slots(const SlotRule&, std::int64_t tokens, std::int64_t top_k);   // P A or N

// What sort_slots writes. Lists (i32) are as long as they can get. Packed they are filled from the front: how
// far, counts say. With a capacity the part of rank r begins at r A, or r B, and ends with -1.
struct SlotLists {
  Tensor counts;        // (P, e + 1) i64: slots for each expert of a rank, then distinct tokens for that rank
  Tensor out_of_range;  // (1) i64: slots whose index is no expert; they go nowhere
  Tensor dropped;       // (1) i64 or undefined: slots over capacity
  Tensor send_index;    // (max_sent_tokens): token of each row that goes out
  Tensor slot_flat;     // (max_sent_slots): flat index of each slot in wire order
  Tensor slot_row;      // (T, K): wire position of each slot, -1 = dropped
  Tensor token_row;     // (T, K) or undefined: position in send_index, stated at the token's first slot for a
                        // rank, -1 elsewhere
  Tensor notes;  // (max_sent_slots, 2) in wire order: expert of the rank, row of its token in the message
};
// indices (T, K) i32, each row K different experts.
void sort_slots(const Context&, const SlotRule&, Tensor indices_TK, const SlotLists&);

// What order_rows writes; lists are i32. Packed, W = R slots came and R rows are made of them; with a
// capacity W = P A and R = e P C, the rows of rank p for expert x begin at (x P + p) C, and empty places hold
// -1.
struct RowLists {
  Tensor expand;         // (R): received token row of each expert row
  Tensor wire_to_row;    // (W)
  Tensor row_to_wire;    // (R): its inverse
  Tensor reduce_index;   // (tokens received or P B, K) or undefined: expert rows of each received token, -1 =
                         // none
  Tensor contradiction;  // (4) i64: the first note that is not what `counts` announced: its wire position +
                         // 1, source rank, expert, token; all 0 if there is none
};
// counts (P, e + 1) as SlotLists::counts, from each rank for this one; notes (W, 2) in wire order; `padding`
// that of the senders, which all have as many tokens. Whatever counts (packed: notes) are, the lists stay in
// range.
void order_rows(const Context&, const SlotPadding&, Tensor counts, Tensor notes, std::int64_t top_k,
                const RowLists&);

// index[i] = map[index[i]], -1 stays. Both i32 vectors.
void map_indices(const Context&, Tensor map, Tensor index);

}  // namespace jevons
