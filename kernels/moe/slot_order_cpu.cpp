#include "kernels/moe/slot_order_cpu.h"

#include <algorithm>
#include <numeric>
#include <span>
#include <vector>

#include "kernels/moe/slot_order_receive_row.h"

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

// first, first + step, ...
Counts multiples(std::int64_t step, std::int64_t count, std::int64_t first = 0) {
  Counts result(at(count));
  for (std::int64_t i = 0; i < count; ++i) result[at(i)] = first + i * step;
  return result;
}

void empty(const Tensor& list) {
  if (list.defined()) std::fill_n(list.ptr<std::int32_t>(), list.numel(), -1);
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
  const SlotPadding padding = padding_of(rule, indices.rows(), indices.cols());
  std::int64_t* const counts = out.counts.ptr<std::int64_t>();
  std::fill_n(counts, out.counts.numel(), 0);
  Counts slots(at(rule.ranks)), tokens(slots), last_token(slots.size(), -1);
  const std::int64_t valid =
      for_each_kept_slot(rule, indices, [&](std::int64_t token, std::int64_t, std::int64_t expert) {
        const std::int64_t rank = expert / local;
        if (last_token[at(rank)] != token) last_token[at(rank)] = token, ++tokens[at(rank)];
        ++slots[at(rank)];
        ++counts[rank * (local + 1) + expert % local];
      });
  for (std::int64_t rank = 0; rank < rule.ranks; ++rank)
    counts[rank * (local + 1) + local] = tokens[at(rank)];
  *out.out_of_range.ptr<std::int64_t>() = indices.numel() - valid;
  if (out.dropped.defined())
    *out.dropped.ptr<std::int64_t>() = valid - std::accumulate(slots.begin(), slots.end(), std::int64_t{0});

  for (const Tensor& t : {out.slot_row, out.token_row, out.send_index, out.slot_flat, out.notes}) empty(t);
  std::int32_t* const slot_row = out.slot_row.ptr<std::int32_t>();
  std::int32_t* const token_row = out.token_row.defined() ? out.token_row.ptr<std::int32_t>() : nullptr;
  const Counts first_token = padding.fixed() ? multiples(padding.tokens, rule.ranks) : begins_of(tokens);
  Counts next_token = first_token,
         next_slot = padding.fixed() ? multiples(padding.slots, rule.ranks) : begins_of(slots);
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

// Places received slots, in wire order.
class Receiver {
 public:
  Receiver(const SlotPadding& padding, Tensor counts, Tensor notes, std::int64_t top_k, const RowLists& out)
      : padding_(padding),
        counts_(counts.ptr<std::int64_t>()),
        notes_(notes.ptr<std::int32_t>()),
        wires_(notes.shape[0]),
        ranks_(counts.shape[0]),
        experts_(counts.shape[1] - 1),
        top_k_(top_k),
        out_(out) {
    if (!padding.fixed()) next_row_ = rows_by_expert();
  }

  void run() {
    Source source{};
    for (std::int64_t rank = 0; rank < ranks_; ++rank) {
      const std::int64_t* const load = counts_ + rank * (experts_ + 1);
      const std::int64_t announced = std::accumulate(load, load + experts_, std::int64_t{0});
      if (padding_.fixed()) {
        source = {rank * padding_.slots, rank * padding_.tokens,
                  std::clamp(announced, std::int64_t{0}, padding_.slots),
                  std::clamp(load[experts_], std::int64_t{0}, padding_.tokens)};
        next_row_ = multiples(ranks_ * padding_.capacity, experts_, rank * padding_.capacity);
      } else {
        source = {source.slot + source.slots, source.token + source.tokens, announced, load[experts_]};
      }
      take(rank, source, Counts(load, load + experts_));
    }
  }

 private:
  // `left`: slots for each expert that are still to come.
  void take(std::int64_t rank, const Source& source, Counts left) {
    std::int64_t last_token = -1, nth = 0;
    const std::int64_t end = source.slot + (padding_.fixed() ? padding_.slots : source.slots);
    const Counts first_row = next_row_;
    for (std::int64_t wire = source.slot; wire < end; ++wire) {
      const std::int64_t expert = notes_[2 * wire], token = notes_[2 * wire + 1];
      if (wire - source.slot >= source.slots) {
        if (expert >= 0) report({wire + 1, rank, expert, token});
        continue;
      }
      nth = token == last_token ? nth + 1 : 0;
      const bool known = token >= 0 && token < source.tokens;
      if (expert < 0 || expert >= experts_ || !known || token < last_token || nth >= top_k_ ||
          left[at(expert)]-- <= 0)
        report({wire + 1, rank, expert, token});
      last_token = token;
      const std::int64_t row = row_of(expert, first_row);
      if (row >= 0) place(wire, row, known ? source.token + token : -1, nth);
    }
  }

  // -1 = outside of the padded part of its rank.
  std::int64_t row_of(std::int64_t expert, const Counts& first_row) {
    if (padding_.fixed() && expert < 0) return -1;
    const std::size_t e = at(std::clamp<std::int64_t>(expert, 0, experts_ - 1));
    if (padding_.fixed() && next_row_[e] - first_row[e] == padding_.capacity) return -1;
    return next_row_[e]++;
  }

  Counts rows_by_expert() const {
    Counts load(at(experts_));
    for (std::int64_t wire = 0; wire < wires_; ++wire)
      ++load[at(std::clamp<std::int64_t>(notes_[2 * wire], 0, experts_ - 1))];
    return begins_of(load);
  }

  void place(std::int64_t wire, std::int64_t row, std::int64_t token_row, std::int64_t nth) {
    out_.expand.ptr<std::int32_t>()[row] = static_cast<std::int32_t>(token_row);
    out_.wire_to_row.ptr<std::int32_t>()[wire] = static_cast<std::int32_t>(row);
    out_.row_to_wire.ptr<std::int32_t>()[row] = static_cast<std::int32_t>(wire);
    if (out_.reduce_index.defined() && token_row >= 0 && nth < top_k_)
      out_.reduce_index.ptr<std::int32_t>()[token_row * top_k_ + nth] = static_cast<std::int32_t>(row);
  }

  void report(const Counts& contradiction) {
    std::int64_t* const first = out_.contradiction.ptr<std::int64_t>();
    if (first[0] == 0) std::copy(contradiction.begin(), contradiction.end(), first);
  }

  SlotPadding padding_;
  const std::int64_t* counts_;
  const std::int32_t* notes_;
  std::int64_t wires_, ranks_, experts_, top_k_;
  const RowLists& out_;
  Counts next_row_;  // of each expert; with a capacity of one source rank
};

}  // namespace

void order_rows(const SlotPadding& padding, Tensor counts, Tensor notes, std::int64_t top_k,
                const RowLists& out) {
  std::fill_n(out.contradiction.ptr<std::int64_t>(), out.contradiction.numel(), 0);
  for (const Tensor& t : {out.expand, out.wire_to_row, out.row_to_wire, out.reduce_index}) empty(t);
  Receiver(padding, counts, notes, top_k, out).run();
}

}  // namespace jevons::cpu
