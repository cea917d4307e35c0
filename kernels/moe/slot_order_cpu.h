// CPU side of slot_order.h: passes over the slots, on one thread.
#pragma once

#include "kernels/moe/slot_order.h"

namespace jevons::cpu {

void sort_slots(const SlotRule& rule, Tensor indices, const SlotLists& out);
void order_rows(const SlotPadding& padding, Tensor counts, Tensor notes, std::int64_t top_k,
                const RowLists& out);

}  // namespace jevons::cpu
