// The order in which the slots of a routing travel to their experts, and in which they lie there (picture:
// docs/moe.md). Indices and counts stay on the device. Legend: T tokens of this rank, K slots per token, slot
// (t, k) has flat index t*K + k, N = T*K; E experts on P ranks, e = E / P experts of a rank; R slots
// received. Wire order: by rank, then token, then slot. Expert order: by expert, then source rank, token,
// slot.
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

// What sort_slots writes. Lists (i32) are as long as they can get, and filled from the front: how far, counts
// say.
struct SlotLists {
  Tensor counts;      // (P, e + 1) i64: slots for each expert of a rank, then distinct tokens for that rank
  Tensor valid;       // (1) i64: slots whose index is an expert; the others are dropped
  Tensor send_index;  // (T * min(K, P)): token of each row that goes out
  Tensor slot_flat;   // (N): flat index of each slot in wire order
  Tensor slot_row;    // (T, K): wire position of each slot, -1 = dropped
  Tensor token_row;   // (T, K) or undefined: position in send_index, stated at the token's first slot for a
                      // rank, -1 elsewhere
  Tensor notes;       // (N, 2) in wire order: expert of the rank, row of its token in the message to the rank
};
// indices (T, K) i32, each row K different experts.
void sort_slots(const Context&, const SlotRule&, Tensor indices_TK, const SlotLists&);

// What order_rows writes; lists are i32.
struct RowLists {
  Tensor expand;        // (R): received token row of each expert row
  Tensor wire_to_row;   // (R)
  Tensor row_to_wire;   // (R): its inverse
  Tensor reduce_index;  // (tokens received, K) or undefined: expert rows of each received token, -1 = none
  Tensor misfit;        // (4) i64: the first note that is not what `counts` announced: its wire position + 1,
                        // source rank, expert, token; all 0 if there is none
};
// counts (P, e + 1) as SlotLists::counts, from each rank for this one; notes (R, 2) in wire order. Whatever
// the notes are, the lists stay in range.
void order_rows(const Context&, Tensor counts, Tensor notes, std::int64_t top_k, const RowLists&);

// index[i] = map[index[i]], -1 stays. Both i32 vectors.
void map_indices(const Context&, Tensor map, Tensor index);

}  // namespace jevons
