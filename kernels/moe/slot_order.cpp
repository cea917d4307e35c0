#include "kernels/moe/slot_order.h"

#include <algorithm>

#include "kernels/moe/slot_order_cpu.h"
#include "kernels/moe/slot_order_receive_row.h"
#include "kernels/moe/slot_order_send_row.h"
#include "kernels/op_call.h"
#include "kernels/row/launch.h"

namespace jevons {
namespace {

std::int32_t* list(const Tensor& t) {
  return t.defined() ? t.ptr<std::int32_t>() : nullptr;
}

// Blocks of slots by columns that they are counted for, and the scan over them.
struct Columns {
  Columns(Arena& work, std::int64_t blocks, std::int64_t columns)
      : counts(work.alloc({blocks, columns}, DType::kI32)),
        totals(work.alloc({columns}, DType::kI32)),
        begins(work.alloc({columns + 1}, DType::kI32)) {}

  void scan(const Context& ctx) const {
    const std::int64_t blocks = counts.shape[0], columns = counts.shape[1];
    launch_rows(ctx, counts.device, 1, (blocks + columns) * columns,
                ColumnScanKernel{list(counts), list(totals), list(begins), blocks, columns});
  }

  Tensor counts, totals, begins;
};

// Work of a call on a block of n slots that each look at those before.
std::int64_t block_work(std::int64_t n) {
  return std::min(n, kSlotBlock) * std::min(n, kSlotBlock);
}

Arena& scratch_of(const Context& ctx) {
  ENSURE(ctx.work != nullptr, "the order of slots needs the work arena");
  return *ctx.work;
}

void sort_by_rows(const Context& ctx, const OutgoingShape& shape, Tensor indices, const SlotLists& out) {
  Arena& work = scratch_of(ctx);
  const ArenaScope scope(work);
  const Columns experts(work, shape.blocks(), shape.rule.experts);
  const Columns ranks(work, shape.blocks(), 2 * shape.rule.ranks);
  const Tensor rank_of = work.alloc(indices.shape, DType::kI32);
  const Device device = indices.device;
  const std::int64_t n = block_work(indices.numel());
  launch_rows(ctx, device, shape.blocks(), n, ExpertCountsKernel{shape, list(indices), list(experts.counts)});
  experts.scan(ctx);
  launch_rows(ctx, device, shape.blocks(), n,
              SlotRanksKernel{shape, list(indices), list(experts.counts), list(rank_of), list(ranks.counts)});
  ranks.scan(ctx);
  launch_rows(ctx, device, shape.blocks(), n,
              SlotListsKernel{shape, list(indices), list(rank_of), list(ranks.counts), list(ranks.begins),
                              list(out.send_index), list(out.slot_flat), list(out.slot_row),
                              list(out.token_row), list(out.notes)});
  launch_rows(ctx, device, shape.rule.ranks, std::max(shape.experts_of_rank(), shape.padding.slots),
              SlotMessageKernel{shape, list(experts.begins), list(ranks.begins),
                                out.counts.ptr<std::int64_t>(), out.out_of_range.ptr<std::int64_t>(),
                                out.dropped.defined() ? out.dropped.ptr<std::int64_t>() : nullptr,
                                list(out.send_index), list(out.slot_flat), list(out.notes)});
}

void order_by_rows(const Context& ctx, const IncomingShape& shape, Tensor counts, Tensor notes,
                   const RowLists& out) {
  Arena& work = scratch_of(ctx);
  const ArenaScope scope(work);
  const Columns experts(work, shape.blocks(), shape.experts);
  constexpr auto kFields = static_cast<std::int64_t>(sizeof(Source) / sizeof(std::int64_t));
  auto* sources = static_cast<Source*>(work.alloc({shape.ranks, kFields}, DType::kI64).data);
  const Tensor contradictions = work.alloc({shape.blocks()}, DType::kI64);
  const Device device = counts.device;
  const auto* announced = counts.ptr<const std::int64_t>();
  launch_rows(ctx, device, shape.ranks, counts.numel(), SourcesKernel{shape, announced, sources});
  if (shape.padding.fixed()) {
    for (const Tensor& t : {out.expand, out.row_to_wire})
      launch_flat(ctx, device, t.numel(), EmptyListKernel{list(t), t.numel()});
  }
  launch_rows(ctx, device, shape.blocks(), block_work(shape.positions),
              NoteCountsKernel{shape, list(notes), list(experts.counts)});
  experts.scan(ctx);
  launch_rows(
      ctx, device, shape.blocks(), block_work(shape.positions),
      ExpertRowsKernel{shape, announced, sources, list(notes), list(experts.counts), list(experts.begins),
                       list(out.expand), list(out.wire_to_row), list(out.row_to_wire)});
  auto* of_blocks = contradictions.ptr<std::int64_t>();
  launch_rows(ctx, device, shape.blocks(), kSlotBlock,
              ContradictionsKernel{shape, announced, sources, list(notes), list(experts.begins),
                                   list(out.wire_to_row), of_blocks});
  launch_rows(ctx, device, 1, shape.blocks(),
              FirstContradictionKernel{shape, sources, list(notes), of_blocks,
                                       out.contradiction.ptr<std::int64_t>()});
  if (!out.reduce_index.defined()) return;
  const std::int64_t received = out.reduce_index.shape[0];
  launch_rows(ctx, device, blocks_of(received * shape.top_k, kSlotBlock), kSlotBlock,
              ReduceIndexKernel{shape, received, sources, list(notes), list(out.wire_to_row),
                                list(out.reduce_index)});
}

}  // namespace

SlotPadding padding_of(const SlotRule& rule, std::int64_t tokens, std::int64_t top_k) {
  if (rule.capacity == kNoCapacity) return {};
  const std::int64_t local = rule.experts / rule.ranks;
  const std::int64_t slots = std::min(local * rule.capacity, tokens * std::min(top_k, local));
  return {.capacity = rule.capacity, .slots = slots, .tokens = std::min(slots, tokens)};
}

std::int64_t max_sent_tokens(const SlotRule& rule, std::int64_t tokens, std::int64_t top_k) {
  const SlotPadding padding = padding_of(rule, tokens, top_k);
  return padding.fixed() ? rule.ranks * padding.tokens : tokens * std::min(top_k, rule.ranks);
}

std::int64_t max_sent_slots(const SlotRule& rule, std::int64_t tokens, std::int64_t top_k) {
  const SlotPadding padding = padding_of(rule, tokens, top_k);
  return padding.fixed() ? rule.ranks * padding.slots : tokens * top_k;
}

void sort_slots(const Context& ctx, const SlotRule& rule, Tensor indices, const SlotLists& out) {
  ENSURE(rule.ranks > 0 && rule.experts > 0 && rule.experts % rule.ranks == 0,
         "sort_slots: {} experts on {} ranks", rule.experts, rule.ranks);
  const std::int64_t tokens = indices.shape[0], top_k = indices.shape[1];
  const std::int64_t slots = max_sent_slots(rule, tokens, top_k);
  OpCall op("sort_slots", indices.device);
  op.reads("indices", indices, {tokens, top_k}, DType::kI32)
      .writes("counts", out.counts, {rule.ranks, rule.experts / rule.ranks + 1}, DType::kI64)
      .writes("out_of_range", out.out_of_range, {1}, DType::kI64)
      .writes("send_index", out.send_index, {max_sent_tokens(rule, tokens, top_k)}, DType::kI32)
      .writes("slot_flat", out.slot_flat, {slots}, DType::kI32)
      .writes("slot_row", out.slot_row, {tokens, top_k}, DType::kI32)
      .writes("notes", out.notes, {slots, 2}, DType::kI32);
  if (out.dropped.defined()) op.writes("dropped", out.dropped, {1}, DType::kI64);
  if (out.token_row.defined()) op.writes("token_row", out.token_row, {tokens, top_k}, DType::kI32);
  op.record(ctx, WorkKind::kRow);
  if (indices.device == Device::kMeta) return;
  if (indices.device == Device::kCpu) return cpu::sort_slots(rule, indices, out);
  sort_by_rows(ctx, {tokens, top_k, rule, padding_of(rule, tokens, top_k)}, indices, out);
}

void order_rows(const Context& ctx, const SlotPadding& padding, Tensor counts, Tensor notes,
                std::int64_t top_k, const RowLists& out) {
  const std::int64_t positions = notes.shape[0], ranks = counts.shape[0], experts = counts.shape[1] - 1;
  const std::int64_t rows = padding.fixed() ? experts * ranks * padding.capacity : positions;
  ENSURE(counts.shape.ndim() == 2 && counts.shape[0] > 0 && counts.shape[1] > 1, "order_rows: counts are {}",
         counts.to_string());
  OpCall op("order_rows", counts.device);
  op.reads("counts", counts, counts.shape, DType::kI64)
      .reads("notes", notes, {positions, 2}, DType::kI32)
      .writes("expand", out.expand, {rows}, DType::kI32)
      .writes("wire_to_row", out.wire_to_row, {positions}, DType::kI32)
      .writes("row_to_wire", out.row_to_wire, {rows}, DType::kI32)
      .writes("contradiction", out.contradiction, {4}, DType::kI64);
  if (out.reduce_index.defined())
    op.writes("reduce_index", out.reduce_index, {out.reduce_index.shape[0], top_k}, DType::kI32);
  op.record(ctx, WorkKind::kRow);
  if (counts.device == Device::kMeta) return;
  if (counts.device == Device::kCpu) return cpu::order_rows(padding, counts, notes, top_k, out);
  order_by_rows(ctx, {positions, ranks, experts, top_k, padding}, counts, notes, out);
}

void map_indices(const Context& ctx, Tensor map, Tensor index) {
  const std::int64_t n = index.numel();
  OpCall("map_indices", index.device)
      .uses("map", map, {map.numel()}, DType::kI32)
      .updates("index", index, {n}, DType::kI32)
      .moves(static_cast<double>(index.bytes()))
      .record(ctx, WorkKind::kRow);
  launch_flat(ctx, index.device, n, MapIndicesKernel{list(map), list(index), n});
}

}  // namespace jevons
