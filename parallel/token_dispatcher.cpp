#include "parallel/token_dispatcher.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <utility>

#include "kernels/core/error.h"
#include "kernels/permute.h"

namespace jevons {
namespace {

std::int64_t total(const std::vector<std::int64_t>& counts) {
  return std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
}

// Does the host see this tensor's elements? Not on kMeta, where only counts are known.
bool on_host(Device device) {
  if (device == Device::kCuda) fail(ExitCode::kFailure, "token dispatch: this build has no CUDA back end");
  return device == Device::kCpu;
}

// A new tensor with the elements of `list`; on kMeta the list is empty.
Tensor place(Arena& arena, Shape shape, const std::vector<std::int32_t>& list) {
  const Tensor t = arena.alloc(shape, DType::kI32);
  if (!on_host(arena.device())) return t;
  ENSURE(t.numel() == std::ssize(list), "{} from {} indices", t.to_string(), list.size());
  if (!list.empty()) std::memcpy(t.data, list.data(), t.bytes());
  return t;
}

Tensor as_column(const Tensor& t) {
  return t.reshape({t.numel(), 1});
}

}  // namespace

TokenDispatcher::TokenDispatcher(Communicator& ep, DispatchOptions options)
    : ep_(&ep), options_(std::move(options)) {
  if (options_.num_experts < 1 || options_.num_experts % ep.size() != 0) {
    fail(ExitCode::kUsage, "{}: {} experts cannot be spread evenly over ep = {} workers", options_.layer,
         options_.num_experts, ep.size());
  }
}

DispatchPlan TokenDispatcher::plan(const Context& ctx, Tensor indices, Arena& arena) const {
  const std::int64_t tokens = indices.shape[0], top_k = options_.top_k;
  ENSURE(indices.shape == Shape({tokens, top_k}) && indices.dtype == DType::kI32, "{}: indices are {}",
         options_.layer, indices.to_string());
  const OutgoingSlots out = on_host(indices.device)
                                ? sort_slots(indices.span<std::int32_t>(), options_, ep_->size())
                                : balanced_slots(tokens, options_, ep_->size());
  const IncomingSlots in = exchange_counts(ctx, out);
  ExpertRows rows = exchange_notes(ctx, out, in);

  DispatchPlan plan;
  plan.tokens = tokens;
  plan.rows = total(in.slots);
  plan.dropped = out.dropped;
  plan.expert_offsets = expert_offsets(in);
  plan.source_offsets = source_offsets(in);
  plan.send_tokens = out.tokens, plan.recv_tokens = in.tokens;
  plan.send_slots = out.slots, plan.recv_slots = in.slots;
  std::vector<std::int32_t> slot_row = out.slot_row;
  if (ep_->size() == 1 && on_host(arena.device())) {  // rows are at home: leave the wire out
    for (std::int32_t& row : rows.expand) row = out.send_index[static_cast<std::size_t>(row)];
    for (std::int32_t& row : slot_row) row = row < 0 ? row : rows.wire_to_row[static_cast<std::size_t>(row)];
  }
  plan.send_index = place(arena, {total(out.tokens)}, out.send_index);
  plan.expand = place(arena, {plan.rows}, rows.expand);
  plan.slot_flat = place(arena, {total(out.slots)}, out.slot_flat);
  plan.row_to_wire = place(arena, {plan.rows}, rows.row_to_wire);
  plan.wire_to_row = place(arena, {plan.rows}, rows.wire_to_row);
  plan.slot_row = place(arena, {tokens, top_k}, slot_row);
  if (options_.reduce_at_expert && ep_->size() > 1) {
    plan.reduce_index = place(arena, {total(in.tokens), top_k}, rows.reduce_index);
    plan.token_row = place(arena, {tokens, top_k}, out.token_row);
  }
  return plan;
}

// A message is (e + 1) counts: slots for each expert of the receiver, and distinct tokens.
IncomingSlots TokenDispatcher::exchange_counts(const Context& ctx, const OutgoingSlots& out) const {
  const std::int64_t ranks = ep_->size(), local = local_experts(), self = ep_->rank();
  const ArenaScope scope(*ctx.work);
  const Tensor sent = ctx.work->alloc({ranks, local + 1}, DType::kI64);
  const Tensor received = ctx.work->alloc({ranks, local + 1}, DType::kI64);
  const bool host = on_host(ctx.work->device());
  for (std::int64_t rank = 0; host && rank < ranks; ++rank) {
    std::int64_t* const message = sent.ptr<std::int64_t>() + rank * (local + 1);
    std::copy_n(out.load.begin() + rank * local, local, message);
    message[local] = out.tokens[static_cast<std::size_t>(rank)];
  }
  {
    const PhaseScope phase(ctx.clock, Phase::kImbalance);
    ep_->all_to_all(sent, received).wait();
  }
  check_echo(ctx, sent, received);

  IncomingSlots in;
  for (std::int64_t rank = 0; rank < ranks; ++rank) {
    // On kMeta every rank sends what this one would send.
    const std::int64_t* const message = host ? received.ptr<std::int64_t>() + rank * (local + 1) : nullptr;
    const auto load = message != nullptr ? message : out.load.data() + self * local;
    in.load.insert(in.load.end(), load, load + local);
    in.slots.push_back(std::accumulate(load, load + local, std::int64_t{0}));
    in.tokens.push_back(message != nullptr ? message[local] : out.tokens[static_cast<std::size_t>(self)]);
  }
  return in;
}

// Every rank sends back what it received: the sender must find its own counts in it.
void TokenDispatcher::check_echo(const Context& ctx, Tensor sent, Tensor received) const {
  const ArenaScope scope(*ctx.work);
  const Tensor echo = ctx.work->alloc(sent.shape, DType::kI64);
  {
    const PhaseScope phase(ctx.clock, Phase::kDispatch);
    ep_->all_to_all(received, echo).wait();
  }
  if (!on_host(ctx.work->device())) return;
  const std::int64_t local = local_experts();
  for (std::int64_t i = 0; i < sent.numel(); ++i) {
    const std::int64_t counted = sent.ptr<std::int64_t>()[i], read = echo.ptr<std::int64_t>()[i];
    if (counted == read) continue;
    const std::int64_t peer = i / (local + 1), expert = i % (local + 1);
    const std::string what =
        expert == local ? "distinct tokens" : fmt::format("slots for expert {}", peer * local + expert);
    fail(ExitCode::kFailure, "{}: rank {} of {} sends {} {} to rank {}, which read {}", options_.layer,
         ep_->rank(), ep_->name(), counted, what, peer, read);
  }
}

ExpertRows TokenDispatcher::exchange_notes(const Context& ctx, const OutgoingSlots& out,
                                           const IncomingSlots& in) const {
  const ArenaScope scope(*ctx.work);
  const Tensor sent = place(*ctx.work, {total(out.slots), 2}, out.notes);
  const Tensor received = ctx.work->alloc({total(in.slots), 2}, DType::kI32);
  {
    const PhaseScope phase(ctx.clock, Phase::kDispatch);
    ep_->all_to_all_v(sent, out.slots, received, in.slots).wait();
  }
  if (!on_host(received.device)) return {};
  return order_rows(in, received.span<std::int32_t>(), options_);
}

TokenDispatcher::Move TokenDispatcher::exchange(const Context& ctx, Tensor rows, const Counts& send_rows,
                                                const Counts& recv_rows) const {
  const Tensor received = ctx.work->alloc({total(recv_rows), rows.cols()}, rows.dtype);
  const PhaseScope phase(ctx.clock, Phase::kDispatch);
  return {rows, received, ep_->all_to_all_v(rows, send_rows, received, recv_rows)};
}

Tensor TokenDispatcher::finish(const Context& ctx, Move& move) const {
  const PhaseScope phase(ctx.clock, Phase::kDispatch);
  move.work.wait();
  return move.received;
}

TokenDispatcher::Move TokenDispatcher::out_begin(const Context& ctx, const DispatchPlan& plan,
                                                 Tensor x) const {
  ENSURE(x.rows() == plan.tokens, "{}: {} rows for a plan of {} tokens", options_.layer, x.rows(),
         plan.tokens);
  if (ep_->size() == 1) return {x, x, {}};
  const Tensor wire = ctx.work->alloc({total(plan.send_tokens), x.cols()}, x.dtype);
  gather_rows(ctx, x, plan.send_index, wire);
  return exchange(ctx, wire, plan.send_tokens, plan.recv_tokens);
}

void TokenDispatcher::out_end(const Context& ctx, const DispatchPlan& plan, Move move, Tensor rows) const {
  gather_rows(ctx, finish(ctx, move), plan.expand, rows);
}

TokenDispatcher::Move TokenDispatcher::home_begin(const Context& ctx, const DispatchPlan& plan,
                                                  Tensor rows) const {
  ENSURE(rows.rows() == plan.rows, "{}: {} rows for a plan of {}", options_.layer, rows.rows(), plan.rows);
  if (ep_->size() == 1) return {rows, rows, {}};
  if (!options_.reduce_at_expert) {
    const Tensor wire = ctx.work->alloc({plan.rows, rows.cols()}, rows.dtype);
    gather_rows(ctx, rows, plan.wire_to_row, wire);
    return exchange(ctx, wire, plan.recv_slots, plan.send_slots);
  }
  const Tensor wire = ctx.work->alloc({total(plan.recv_tokens), rows.cols()}, rows.dtype);
  sum_rows(ctx, rows, plan.reduce_index, wire);
  return exchange(ctx, wire, plan.recv_tokens, plan.send_tokens);
}

void TokenDispatcher::home_end(const Context& ctx, const DispatchPlan& plan, Move move, Tensor y) const {
  const bool reduced = options_.reduce_at_expert && ep_->size() > 1;
  sum_rows(ctx, finish(ctx, move), reduced ? plan.token_row : plan.slot_row, y);
}

void TokenDispatcher::out_scalars(const Context& ctx, const DispatchPlan& plan, Tensor w_TK,
                                  Tensor w_R) const {
  const ArenaScope scope(*ctx.work);
  const Tensor wire = ctx.work->alloc({total(plan.send_slots), 1}, w_TK.dtype);
  gather_rows(ctx, as_column(w_TK), plan.slot_flat, wire);
  Move move = exchange(ctx, wire, plan.send_slots, plan.recv_slots);
  gather_rows(ctx, finish(ctx, move), plan.row_to_wire, as_column(w_R));
}

void TokenDispatcher::home_scalars(const Context& ctx, const DispatchPlan& plan, Tensor dw_R,
                                   Tensor dw_TK) const {
  const Tensor index = as_column(plan.slot_row);
  if (ep_->size() == 1) return sum_rows(ctx, as_column(dw_R), index, as_column(dw_TK));
  const ArenaScope scope(*ctx.work);
  const Tensor wire = ctx.work->alloc({plan.rows, 1}, dw_R.dtype);
  gather_rows(ctx, as_column(dw_R), plan.wire_to_row, wire);
  Move move = exchange(ctx, wire, plan.recv_slots, plan.send_slots);
  sum_rows(ctx, finish(ctx, move), index, as_column(dw_TK));
}

}  // namespace jevons
