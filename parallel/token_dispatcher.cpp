#include "parallel/token_dispatcher.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <utility>

#include "kernels/core/error.h"
#include "kernels/core/profile_range.h"
#include "kernels/core/whereabouts.h"
#include "kernels/host_view.h"
#include "kernels/permute.h"

namespace jevons {
namespace {

std::int64_t total(const std::vector<std::int64_t>& counts) {
  return std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
}

Tensor as_column(const Tensor& t) {
  return t.reshape({t.numel(), 1});
}

// What a plan tells the host, in one tensor that is read at once: counts sent, received and sent back, each
// (P, e + 1); how many indices are valid; the misfit of the plan before.
struct Ledger {
  Ledger(const Tensor& all, std::int64_t ranks)
      : part((all.numel() - 5) / 3),
        sent(message(all, 0, ranks)),
        received(message(all, 1, ranks)),
        echo(message(all, 2, ranks)),
        valid(all.slice(3 * part, 3 * part + 1)),
        misfit(all.slice(3 * part + 1, 3 * part + 5)) {}
  static std::int64_t size(std::int64_t ranks, std::int64_t local) { return 3 * ranks * (local + 1) + 5; }

  std::int64_t part;
  Tensor sent, received, echo, valid, misfit;

 private:
  Tensor message(const Tensor& all, std::int64_t i, std::int64_t ranks) const {
    return all.slice(i * part, (i + 1) * part).reshape({ranks, part / ranks});
  }
};

}  // namespace

TokenDispatcher::TokenDispatcher(Communicator& ep, DispatchOptions options)
    : ep_(&ep), options_(std::move(options)) {
  if (options_.num_experts < 1 || options_.num_experts % ep.size() != 0) {
    fail(ExitCode::kUsage, "{}: {} experts cannot be spread evenly over ep = {} workers", options_.layer,
         options_.num_experts, ep.size());
  }
}

DispatchPlan TokenDispatcher::plan(const Context& ctx, Tensor indices, Arena& arena) const {
  const ProfileRange range("dispatch plan");
  const std::int64_t tokens = indices.shape[0], top_k = options_.top_k, ranks = ep_->size();
  ENSURE(indices.shape == Shape({tokens, top_k}) && indices.dtype == DType::kI32, "{}: indices are {}",
         options_.layer, indices.to_string());
  SlotLists lists = allocate_lists(arena, tokens);

  std::optional<ArenaScope> scope;  // if the lists lie in ctx.work too, what is in between goes with them
  if (&arena != ctx.work) scope.emplace(*ctx.work);
  const Tensor ledger = ctx.work->alloc({Ledger::size(ranks, local_experts())}, DType::kI64);
  const Ledger told(ledger, ranks);
  lists.counts = told.sent, lists.valid = told.valid;
  lists.notes = ctx.work->alloc({tokens * top_k, 2}, DType::kI32);
  sort_slots(ctx, {options_.num_experts, ranks, capacity(tokens, options_)}, indices, lists);
  const Exchanged counts = exchange_counts(ctx, indices, ledger);
  if (ctx.whereabouts != nullptr) ctx.whereabouts->dispatch(counts.out.tokens, counts.in.tokens);

  DispatchPlan plan;
  plan.tokens = tokens;
  plan.rows = total(counts.in.slots);
  plan.dropped = counts.dropped;
  plan.expert_offsets = expert_offsets(counts.in);
  plan.source_offsets = source_offsets(counts.in);
  plan.send_tokens = counts.out.tokens, plan.recv_tokens = counts.in.tokens;
  plan.send_slots = counts.out.slots, plan.recv_slots = counts.in.slots;
  plan.send_index = lists.send_index.slice(0, total(counts.out.tokens));
  plan.slot_flat = lists.slot_flat.slice(0, total(counts.out.slots));
  plan.slot_row = lists.slot_row, plan.token_row = lists.token_row;
  order_received(ctx, plan, lists.notes.slice(0, total(counts.out.slots)), told.received, arena);
  if (ranks == 1) {  // rows are at home: leave the wire out
    map_indices(ctx, plan.send_index, plan.expand);
    map_indices(ctx, plan.wire_to_row, plan.slot_row.reshape({tokens * top_k}));
  }
  return plan;
}

// As long as they can get: how much of them is filled the device knows before the host does.
SlotLists TokenDispatcher::allocate_lists(Arena& arena, std::int64_t tokens) const {
  const std::int64_t top_k = options_.top_k, slots = tokens * top_k;
  SlotLists lists;
  lists.send_index = arena.alloc({tokens * std::min<std::int64_t>(top_k, ep_->size())}, DType::kI32);
  lists.slot_flat = arena.alloc({slots}, DType::kI32);
  lists.slot_row = arena.alloc({tokens, top_k}, DType::kI32);
  if (options_.reduce_at_expert && ep_->size() > 1)
    lists.token_row = arena.alloc({tokens, top_k}, DType::kI32);
  return lists;
}

// Of the last plan on this device; all 0 before the first.
Tensor TokenDispatcher::misfit_on(Device device) const {
  const Shape shape{4};
  if (misfit_.bytes() == 0 || misfit_.device() != device)
    misfit_ = Buffer(device, static_cast<std::size_t>(shape.numel()) * size_of(DType::kI64));
  return misfit_.view(0, shape, DType::kI64);
}

// Every rank sends back what it received: the sender must find its own counts in it.
TokenDispatcher::Exchanged TokenDispatcher::exchange_counts(const Context& ctx, Tensor indices,
                                                            Tensor ledger) const {
  const std::int64_t ranks = ep_->size();
  const Ledger told(ledger, ranks);
  {
    const PhaseScope phase(ctx.clock, Phase::kImbalance);
    ep_->all_to_all(told.sent, told.received).wait();
  }
  {
    const PhaseScope phase(ctx.clock, Phase::kDispatch);
    ep_->all_to_all(told.received, told.echo).wait();
  }
  if (ledger.device == Device::kMeta) {
    const SlotCounts out = balanced_counts(indices.shape[0], options_, ranks);
    return {out, received_if_alike(out, ep_->rank()), indices.numel() - total(out.slots)};
  }
  copy_async(ctx.stream, told.misfit, misfit_on(ledger.device));
  const Ledger host(host_view(ctx, ledger), ranks);
  const std::int64_t valid = *host.valid.ptr<std::int64_t>();
  check_notes(host.misfit.span<std::int64_t>());
  check_echo(host.sent.span<std::int64_t>(), host.echo.span<std::int64_t>());
  const SlotCounts out = read_counts(host.sent.span<std::int64_t>(), ranks);
  const SlotCounts in = read_counts(host.received.span<std::int64_t>(), ranks);
  check_indices(ctx, indices, valid);
  return {out, in, valid - total(out.slots)};
}

void TokenDispatcher::check_indices(const Context& ctx, Tensor indices, std::int64_t valid) const {
  if (valid == indices.numel()) return;
  const auto chosen = host_view(ctx, indices).span<std::int32_t>();
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    ENSURE(chosen[i] >= 0 && chosen[i] < options_.num_experts, "{}: token {} chose expert {} of {}",
           options_.layer, static_cast<std::int64_t>(i) / options_.top_k, chosen[i], options_.num_experts);
  }
}

void TokenDispatcher::check_echo(std::span<const std::int64_t> sent,
                                 std::span<const std::int64_t> echo) const {
  const auto local = static_cast<std::size_t>(local_experts());
  for (std::size_t i = 0; i < sent.size(); ++i) {
    if (sent[i] == echo[i]) continue;
    const std::size_t peer = i / (local + 1), expert = i % (local + 1);
    const std::string what =
        expert == local ? "distinct tokens" : fmt::format("slots for expert {}", peer * local + expert);
    fail(ExitCode::kFailure, "{}: rank {} of {} sends {} {} to rank {}, which read {}", options_.layer,
         ep_->rank(), ep_->name(), sent[i], what, peer, echo[i]);
  }
}

void TokenDispatcher::check_notes(std::span<const std::int64_t> misfit) const {
  ENSURE(misfit[0] == 0,
         "{}: slot {} of rank {} is for expert {} of this rank and token {}, against the counts that it "
         "announced",
         options_.layer, misfit[0] - 1, misfit[1], misfit[2], misfit[3]);
}

void TokenDispatcher::order_received(const Context& ctx, DispatchPlan& plan, Tensor notes, Tensor announced,
                                     Arena& arena) const {
  const Tensor received = ctx.work->alloc({plan.rows, 2}, DType::kI32);
  {
    const PhaseScope phase(ctx.clock, Phase::kDispatch);
    ep_->all_to_all_v(notes, plan.send_slots, received, plan.recv_slots).wait();
  }
  plan.expand = arena.alloc({plan.rows}, DType::kI32);
  plan.row_to_wire = arena.alloc({plan.rows}, DType::kI32);
  plan.wire_to_row = arena.alloc({plan.rows}, DType::kI32);
  if (plan.token_row.defined())
    plan.reduce_index = arena.alloc({total(plan.recv_tokens), options_.top_k}, DType::kI32);
  const Tensor misfit = misfit_on(announced.device);
  order_rows(ctx, announced, received, options_.top_k,
             {plan.expand, plan.wire_to_row, plan.row_to_wire, plan.reduce_index, misfit});
  if (misfit.device == Device::kCpu) check_notes(misfit.span<std::int64_t>());
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
