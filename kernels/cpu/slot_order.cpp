#include "kernels/cpu/slot_order.h"

#include <algorithm>
#include <numeric>
#include <span>
#include <vector>

namespace jevons::cpu {
namespace {

using Counts = std::vector<std::int64_t>;

std::size_t at(std::int64_t i) {
  return static_cast<std::size_t>(i);
}

// (n) counts to the n positions where their runs begin.
Counts begins_of(const Counts& counts) {
  Counts begins(counts.size());
  std::exclusive_scan(counts.begin(), counts.end(), begins.begin(), std::int64_t{0});
  return begins;
}

// Calls f(token, flat, expert) for every slot that is kept, in slot order; returns how many name an expert.
template <class F>
std::int64_t for_each_kept_slot(const SlotRule& rule, Tensor indices, F f) {
  const std::span<const std::int32_t> chosen = indices.span<std::int32_t>();
  const std::int64_t slots = indices.numel(), top_k = indices.cols();
  Counts taken(at(rule.experts));
  std::int64_t valid = 0;
  for (std::int64_t flat = 0; flat < slots; ++flat) {
    const std::int64_t expert = chosen[at(flat)];
    if (expert < 0 || expert >= rule.experts) continue;
    ++valid;
    if (taken[at(expert)] == rule.capacity) continue;
    ++taken[at(expert)];
    f(flat / top_k, flat, expert);
  }
  return valid;
}

}  // namespace

void sort_slots(const SlotRule& rule, Tensor indices, const SlotLists& out) {
  const std::int64_t local = rule.experts / rule.ranks;
  std::int64_t* const counts = out.counts.ptr<std::int64_t>();
  std::fill_n(counts, out.counts.numel(), 0);
  Counts slots(at(rule.ranks)), tokens(slots), last_token(slots.size(), -1);
  *out.valid.ptr<std::int64_t>() =
      for_each_kept_slot(rule, indices, [&](std::int64_t token, std::int64_t, std::int64_t expert) {
        const std::int64_t rank = expert / local;
        if (last_token[at(rank)] != token) last_token[at(rank)] = token, ++tokens[at(rank)];
        ++slots[at(rank)];
        ++counts[rank * (local + 1) + expert % local];
      });
  for (std::int64_t rank = 0; rank < rule.ranks; ++rank)
    counts[rank * (local + 1) + local] = tokens[at(rank)];

  std::int32_t* const slot_row = out.slot_row.ptr<std::int32_t>();
  std::int32_t* const token_row = out.token_row.defined() ? out.token_row.ptr<std::int32_t>() : nullptr;
  std::fill_n(slot_row, indices.numel(), -1);
  if (token_row != nullptr) std::fill_n(token_row, indices.numel(), -1);
  const Counts first_token = begins_of(tokens);
  Counts next_token = first_token, next_slot = begins_of(slots);
  std::fill(last_token.begin(), last_token.end(), -1);
  std::int32_t* const send_index = out.send_index.ptr<std::int32_t>();
  std::int32_t* const slot_flat = out.slot_flat.ptr<std::int32_t>();
  std::int32_t* const notes = out.notes.ptr<std::int32_t>();
  for_each_kept_slot(rule, indices, [&](std::int64_t token, std::int64_t flat, std::int64_t expert) {
    const std::size_t rank = at(expert / local);
    if (last_token[rank] != token) {
      last_token[rank] = token;
      if (token_row != nullptr) token_row[flat] = static_cast<std::int32_t>(next_token[rank]);
      send_index[next_token[rank]++] = static_cast<std::int32_t>(token);
    }
    const std::int64_t wire = next_slot[rank]++;
    slot_flat[wire] = static_cast<std::int32_t>(flat);
    slot_row[flat] = static_cast<std::int32_t>(wire);
    notes[2 * wire] = static_cast<std::int32_t>(expert % local);
    notes[2 * wire + 1] = static_cast<std::int32_t>(next_token[rank] - 1 - first_token[rank]);
  });
}

namespace {

// Where received slots stand, one after another.
class Receiver {
 public:
  Receiver(Tensor counts, Tensor notes, std::int64_t top_k, const RowLists& out)
      : counts_(counts.ptr<std::int64_t>()),
        notes_(notes.ptr<std::int32_t>()),
        ranks_(counts.shape[0]),
        experts_(counts.shape[1] - 1),
        top_k_(top_k),
        out_(out),
        next_row_(rows_by_expert(notes.shape[0])) {}

  void run() {
    std::int64_t wire = 0, first_token = 0;
    for (std::int64_t rank = 0; rank < ranks_; ++rank) {
      const std::int64_t* const load = counts_ + rank * (experts_ + 1);
      const std::int64_t end = wire + std::accumulate(load, load + experts_, std::int64_t{0});
      Counts left(load, load + experts_);
      std::int64_t last_token = -1, slot = 0;
      for (; wire < end; ++wire) {
        const std::int64_t expert = notes_[2 * wire], token = notes_[2 * wire + 1];
        slot = token == last_token ? slot + 1 : 0;
        const bool in_range = expert >= 0 && expert < experts_ && token >= 0 && token < load[experts_];
        if (!in_range || token < last_token || slot >= top_k_ || left[at(expert)]-- <= 0)
          report({wire + 1, rank, expert, token});
        last_token = token;
        place(wire, first_token + std::max<std::int64_t>(0, std::min(token, load[experts_] - 1)), slot);
      }
      first_token += load[experts_];
    }
  }

 private:
  std::int64_t expert_of(std::int64_t wire) const {
    return std::clamp<std::int64_t>(notes_[2 * wire], 0, experts_ - 1);
  }

  Counts rows_by_expert(std::int64_t rows) const {
    Counts load(at(experts_));
    for (std::int64_t wire = 0; wire < rows; ++wire) ++load[at(expert_of(wire))];
    return begins_of(load);
  }

  void place(std::int64_t wire, std::int64_t token_row, std::int64_t slot) {
    const std::int64_t row = next_row_[at(expert_of(wire))]++;
    out_.expand.ptr<std::int32_t>()[row] = static_cast<std::int32_t>(token_row);
    out_.wire_to_row.ptr<std::int32_t>()[wire] = static_cast<std::int32_t>(row);
    out_.row_to_wire.ptr<std::int32_t>()[row] = static_cast<std::int32_t>(wire);
    if (out_.reduce_index.defined() && slot < top_k_)
      out_.reduce_index.ptr<std::int32_t>()[token_row * top_k_ + slot] = static_cast<std::int32_t>(row);
  }

  void report(const Counts& misfit) {
    std::int64_t* const first = out_.misfit.ptr<std::int64_t>();
    if (first[0] == 0) std::copy(misfit.begin(), misfit.end(), first);
  }

  const std::int64_t* counts_;
  const std::int32_t* notes_;
  std::int64_t ranks_, experts_, top_k_;
  const RowLists& out_;
  Counts next_row_;
};

}  // namespace

void order_rows(Tensor counts, Tensor notes, std::int64_t top_k, const RowLists& out) {
  std::fill_n(out.misfit.ptr<std::int64_t>(), out.misfit.numel(), 0);
  if (out.reduce_index.defined())
    std::fill_n(out.reduce_index.ptr<std::int32_t>(), out.reduce_index.numel(), -1);
  Receiver(counts, notes, top_k, out).run();
}

}  // namespace jevons::cpu
