#include "parallel/token_dispatcher.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <utility>

#include "kernels/core/error.h"
#include "kernels/core/profile_range.h"
#include "kernels/core/turns.h"
#include "kernels/core/whereabouts.h"
#include "kernels/host_view.h"
#include "kernels/moe/permute.h"

namespace jevons {
namespace {

std::int64_t total(const std::vector<std::int64_t>& counts) {
  return std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
}

Tensor as_column(const Tensor& t) {
  return t.reshape({t.numel(), 1});
}

// What a plan tells the host, in one tensor that is read at once: counts sent, received and sent back, each
// (P, e + 1); how many indices are no expert; the first note that contradicts the counts.
struct Report {
  Report(const Tensor& all, std::int64_t ranks)
      : part((all.numel() - 5) / 3),
        sent(message(all, 0, ranks)),
        received(message(all, 1, ranks)),
        echo(message(all, 2, ranks)),
        out_of_range(all.slice(3 * part, 3 * part + 1)),
        contradiction(all.slice(3 * part + 1, 3 * part + 5)) {}
  static std::int64_t size(std::int64_t ranks, std::int64_t local) { return 3 * ranks * (local + 1) + 5; }

  std::int64_t part;
  Tensor sent, received, echo, out_of_range, contradiction;

 private:
  Tensor message(const Tensor& all, std::int64_t i, std::int64_t ranks) const {
    return all.slice(i * part, (i + 1) * part).reshape({ranks, part / ranks});
  }
};

}  // namespace

TokenDispatcher::TokenDispatcher(Communicator& ep, DispatchOptions options)
    : ep_(&ep), options_(std::move(options)) {
  ENSURE(options_.num_experts >= 1 && options_.num_experts % ep.size() == 0,
         "{}: {} experts cannot be spread evenly over ep = {} workers", options_.layer, options_.num_experts,
         ep.size());
}

SlotRule TokenDispatcher::rule(std::int64_t tokens) const {
  return {options_.num_experts, ep_->size(), capacity(tokens, options_)};
}

DispatchPlan TokenDispatcher::plan(const Context& ctx, Tensor indices, Arena& arena) const {
  const ProfileRange range("dispatch plan");
  const std::int64_t tokens = indices.shape[0], top_k = options_.top_k, ranks = ep_->size();
  ENSURE(indices.shape == Shape({tokens, top_k}) && indices.dtype == DType::kI32, "{}: indices are {}",
         options_.layer, indices.to_string());
  const SlotPadding padding = padding_of(rule(tokens), tokens, top_k);
  SlotLists lists = allocate_lists(arena, rule(tokens), tokens);

  std::optional<ArenaScope> scope;  // if the lists lie in ctx.work too, what is in between goes with them
  if (&arena != ctx.work) scope.emplace(*ctx.work);
  const Tensor report = ctx.work->alloc({Report::size(ranks, local_experts())}, DType::kI64);
  const Report parts(report, ranks);
  lists.counts = parts.sent, lists.out_of_range = parts.out_of_range;
  lists.notes = ctx.work->alloc({lists.slot_flat.numel(), 2}, DType::kI32);
  sort_slots(ctx, rule(tokens), indices, lists);
  exchange_counts(ctx, report);
  const Exchanged counts = counts_of(ctx, padding, indices, report);
  if (ctx.whereabouts != nullptr) ctx.whereabouts->dispatch(counts.out.tokens, counts.in.tokens);

  DispatchPlan plan;
  plan.tokens = tokens;
  plan.dropped = lists.dropped;
  plan.expert_offsets = expert_offsets(counts.in);
  plan.source_offsets = source_offsets(counts.in);
  plan.rows = plan.expert_offsets.back();
  plan.send_tokens = counts.out.tokens, plan.recv_tokens = counts.in.tokens;
  plan.send_slots = counts.out.slots, plan.recv_slots = counts.in.slots;
  plan.send_index = lists.send_index.slice(0, total(counts.out.tokens));
  plan.slot_flat = lists.slot_flat.slice(0, total(counts.out.slots));
  plan.slot_row = lists.slot_row, plan.token_row = lists.token_row;
  order_received(ctx, plan, padding, lists.notes.slice(0, total(counts.out.slots)), report, arena);
  if (ranks == 1) {  // rows are at home: leave the wire out
    map_indices(ctx, plan.send_index, plan.expand);
    map_indices(ctx, plan.wire_to_row, plan.slot_row.reshape({tokens * top_k}));
  }
  return plan;
}

// As long as they can get: how much of them is filled the device knows before the host does.
SlotLists TokenDispatcher::allocate_lists(Arena& arena, const SlotRule& rule, std::int64_t tokens) const {
  const std::int64_t top_k = options_.top_k;
  SlotLists lists;
  lists.send_index = arena.alloc({max_sent_tokens(rule, tokens, top_k)}, DType::kI32);
  lists.slot_flat = arena.alloc({max_sent_slots(rule, tokens, top_k)}, DType::kI32);
  lists.slot_row = arena.alloc({tokens, top_k}, DType::kI32);
  if (options_.reduce_at_expert && ep_->size() > 1)
    lists.token_row = arena.alloc({tokens, top_k}, DType::kI32);
  if (rule.capacity != kNoCapacity) lists.dropped = arena.alloc({1}, DType::kI64);
  return lists;
}

// Every rank sends back what it received: the sender must find its own counts in it.
void TokenDispatcher::exchange_counts(const Context& ctx, Tensor report) const {
  const Report parts(report, ep_->size());
  {
    const PhaseScope phase(ctx.clock, Phase::kImbalance);
    ep_->all_to_all(parts.sent, parts.received).wait();
  }
  const PhaseScope phase(ctx.clock, Phase::kDispatch);
  ep_->all_to_all(parts.received, parts.echo).wait();
}

// What goes where. With a capacity the host knows without asking the device.
TokenDispatcher::Exchanged TokenDispatcher::counts_of(const Context& ctx, const SlotPadding& padding,
                                                      Tensor indices, Tensor report) const {
  const std::int64_t ranks = ep_->size();
  if (ctx.device == Device::kCpu || (ctx.device == Device::kCuda && !padding.fixed())) {
    const Tensor host = host_view(ctx, report);
    const Report parts(host, ranks);
    const Exchanged counts{read_counts(parts.sent.span<std::int64_t>(), ranks),
                           read_counts(parts.received.span<std::int64_t>(), ranks)};
    check_counts(host);
    if (*parts.out_of_range.ptr<std::int64_t>() != 0) check_choice(ctx, indices);
    if (!padding.fixed()) return counts;
  }
  if (padding.fixed()) {
    const SlotCounts counts = padded_counts(padding, options_.num_experts, ranks);
    return {counts, counts};
  }
  const SlotCounts out = balanced_counts(indices.shape[0], options_, ranks);
  return {out, received_if_alike(out, ep_->rank())};
}

void TokenDispatcher::check_choice(const Context& ctx, Tensor indices) const {
  const auto chosen = host_view(ctx, indices).span<std::int32_t>();
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    ENSURE(chosen[i] >= 0 && chosen[i] < options_.num_experts, "{}: token {} chose expert {} of {}",
           options_.layer, static_cast<std::int64_t>(i) / options_.top_k, chosen[i], options_.num_experts);
  }
}

// `report` on the host.
void TokenDispatcher::check_counts(Tensor report) const {
  const Report parts(report, ep_->size());
  const auto local = static_cast<std::size_t>(local_experts());
  const auto sent = parts.sent.span<std::int64_t>(), echo = parts.echo.span<std::int64_t>();
  for (std::size_t i = 0; i < sent.size(); ++i) {
    if (sent[i] == echo[i]) continue;
    const std::size_t peer = i / (local + 1), expert = i % (local + 1);
    const std::string what =
        expert == local ? "distinct tokens" : fmt::format("slots for expert {}", peer * local + expert);
    fail(ExitCode::kFailure, "{}: rank {} of {} sends {} {} to rank {}, which read {}", options_.layer,
         ep_->rank(), ep_->name(), sent[i], what, peer, echo[i]);
  }
}

void TokenDispatcher::check_notes(Tensor report) const {
  const Report parts(report, ep_->size());
  const auto contradiction = parts.contradiction.span<std::int64_t>();
  ENSURE(contradiction[0] == 0,
         "{}: slot {} of rank {} is for expert {} of this rank and token {}, against the counts that it "
         "announced",
         options_.layer, contradiction[0] - 1, contradiction[1], contradiction[2], contradiction[3]);
}

void TokenDispatcher::order_received(const Context& ctx, DispatchPlan& plan, const SlotPadding& padding,
                                     Tensor notes, Tensor report, Arena& arena) const {
  const std::int64_t positions = total(plan.recv_slots);
  const Tensor received = ctx.work->alloc({positions, 2}, DType::kI32);
  {
    const PhaseScope phase(ctx.clock, Phase::kDispatch);
    ep_->all_to_all_v(notes, plan.send_slots, received, plan.recv_slots).wait();
  }
  plan.expand = arena.alloc({plan.rows}, DType::kI32);
  plan.row_to_wire = arena.alloc({plan.rows}, DType::kI32);
  plan.wire_to_row = arena.alloc({positions}, DType::kI32);
  if (plan.token_row.defined())
    plan.reduce_index = arena.alloc({total(plan.recv_tokens), options_.top_k}, DType::kI32);
  const Report parts(report, ep_->size());
  order_rows(ctx, padding, parts.received, received, options_.top_k,
             {plan.expand, plan.wire_to_row, plan.row_to_wire, plan.reduce_index, parts.contradiction});
  if (ctx.device == Device::kCpu) check_notes(report);
  if (ctx.device != Device::kCuda) return;
  if (!reports_) reports_.emplace(ctx.device, DType::kI64, report.numel());
  copy_async(ctx.stream, reports_->add_row(ctx), report);
}

void TokenDispatcher::fetch_reports(const Context& ctx) const {
  if (reports_) reports_->fetch(ctx);
}

void TokenDispatcher::check_reports() const {
  if (!reports_) return;
  const std::int64_t plans = reports_->rows();
  reports_->clear();
  for (std::int64_t i = 0; i < plans; ++i) {
    const Tensor report = reports_->row(i);
    check_counts(report);
    check_notes(report);
    const std::int64_t out_of_range = *Report(report, ep_->size()).out_of_range.ptr<std::int64_t>();
    ENSURE(out_of_range == 0, "{}: {} choices of tokens are none of {} experts", options_.layer, out_of_range,
           options_.num_experts);
  }
}

TokenDispatcher::Move TokenDispatcher::exchange(const Context& ctx, Tensor rows, const Counts& send_rows,
                                                const Counts& recv_rows) const {
  const Tensor received = ctx.work->alloc({total(recv_rows), rows.cols()}, rows.dtype);
  const PhaseScope phase(ctx.clock, Phase::kDispatch);
  return {rows, received, ep_->all_to_all_v(rows, send_rows, received, recv_rows)};
}

Tensor TokenDispatcher::finish(const Context& ctx, Move& move) const {
  if (ctx.turns != nullptr) ctx.turns->hand_over();
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
    const Tensor wire = ctx.work->alloc({total(plan.recv_slots), rows.cols()}, rows.dtype);
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
  const Tensor wire = ctx.work->alloc({total(plan.recv_slots), 1}, dw_R.dtype);
  gather_rows(ctx, as_column(dw_R), plan.wire_to_row, wire);
  Move move = exchange(ctx, wire, plan.recv_slots, plan.send_slots);
  sum_rows(ctx, finish(ctx, move), index, as_column(dw_TK));
}

}  // namespace jevons
