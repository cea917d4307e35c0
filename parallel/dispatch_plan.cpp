#include "parallel/dispatch_plan.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "kernels/core/error.h"

namespace jevons {
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

std::int64_t total(const Counts& counts) {
  return std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
}

// Most slots that one expert takes from one rank.
std::int64_t capacity(std::int64_t tokens, const DispatchOptions& options) {
  if (options.capacity_factor <= 0) return std::numeric_limits<std::int64_t>::max();
  const double even = static_cast<double>(tokens * options.top_k) / static_cast<double>(options.num_experts);
  return static_cast<std::int64_t>(std::ceil(options.capacity_factor * even));
}

// Calls f(token, flat, expert) for every slot that is kept, in slot order; returns how many are dropped.
template <class F>
std::int64_t for_each_kept_slot(std::span<const std::int32_t> indices, const DispatchOptions& options, F f) {
  const auto slots = static_cast<std::int64_t>(indices.size());
  const std::int64_t limit = capacity(slots / options.top_k, options);
  Counts taken(at(options.num_experts));
  std::int64_t dropped = 0;
  for (std::int64_t flat = 0; flat < slots; ++flat) {
    const std::int64_t expert = indices[at(flat)];
    if (taken[at(expert)] == limit) {
      ++dropped;
      continue;
    }
    ++taken[at(expert)];
    f(flat / options.top_k, flat, expert);
  }
  return dropped;
}

void check_indices(std::span<const std::int32_t> indices, const DispatchOptions& options) {
  for (std::size_t i = 0; i < indices.size(); ++i) {
    ENSURE(indices[i] >= 0 && indices[i] < options.num_experts, "{}: token {} chose expert {} of {}",
           options.layer, static_cast<std::int64_t>(i) / options.top_k, indices[i], options.num_experts);
  }
}

// Counts per rank and expert.
void count_slots(std::span<const std::int32_t> indices, const DispatchOptions& options, int ranks,
                 OutgoingSlots& out) {
  const std::int64_t local = options.num_experts / ranks;
  out.tokens.assign(at(ranks), 0), out.slots.assign(at(ranks), 0);
  out.load.assign(at(options.num_experts), 0);
  Counts last_token(at(ranks), -1);
  out.dropped =
      for_each_kept_slot(indices, options, [&](std::int64_t token, std::int64_t, std::int64_t expert) {
        const std::size_t rank = at(expert / local);
        if (last_token[rank] != token) last_token[rank] = token, ++out.tokens[rank];
        ++out.slots[rank];
        ++out.load[at(expert)];
      });
}

}  // namespace

OutgoingSlots sort_slots(std::span<const std::int32_t> indices, const DispatchOptions& options, int ranks) {
  check_indices(indices, options);
  OutgoingSlots out;
  count_slots(indices, options, ranks, out);
  const std::int64_t local = options.num_experts / ranks, slots = total(out.slots);
  out.send_index.resize(at(total(out.tokens)));
  out.slot_flat.resize(at(slots));
  out.notes.resize(at(2 * slots));
  out.slot_row.assign(indices.size(), -1);
  if (options.reduce_at_expert) out.token_row.assign(indices.size(), -1);

  const Counts first_token = begins_of(out.tokens);
  Counts next_token = first_token, next_slot = begins_of(out.slots), last_token(at(ranks), -1);
  for_each_kept_slot(indices, options, [&](std::int64_t token, std::int64_t flat, std::int64_t expert) {
    const std::size_t rank = at(expert / local);
    if (last_token[rank] != token) {
      last_token[rank] = token;
      if (options.reduce_at_expert) out.token_row[at(flat)] = static_cast<std::int32_t>(next_token[rank]);
      out.send_index[at(next_token[rank]++)] = static_cast<std::int32_t>(token);
    }
    const std::int64_t wire = next_slot[rank]++;
    out.slot_flat[at(wire)] = static_cast<std::int32_t>(flat);
    out.slot_row[at(flat)] = static_cast<std::int32_t>(wire);
    out.notes[at(2 * wire)] = static_cast<std::int32_t>(expert % local);
    out.notes[at(2 * wire + 1)] = static_cast<std::int32_t>(next_token[rank] - 1 - first_token[rank]);
  });
  return out;
}

OutgoingSlots balanced_slots(std::int64_t tokens, const DispatchOptions& options, int ranks) {
  const std::int64_t experts = options.num_experts, local = experts / ranks, slots = tokens * options.top_k;
  const std::int64_t limit = capacity(tokens, options);
  double miss = 1;  // probability that none of a token's experts is on a given rank
  for (std::int64_t k = 0; k < options.top_k; ++k) {
    miss *= static_cast<double>(std::max<std::int64_t>(experts - local - k, 0)) /
            static_cast<double>(experts - k);
  }
  OutgoingSlots out;
  out.slots.assign(at(ranks), 0);
  for (std::int64_t expert = 0; expert < experts; ++expert) {
    const std::int64_t even = (expert + 1) * slots / experts - expert * slots / experts;
    out.load.push_back(std::min(even, limit));
    out.slots[at(expert / local)] += out.load.back();
  }
  const std::int64_t distinct = std::llround(static_cast<double>(tokens) * (1 - miss));
  for (std::int64_t n : out.slots) out.tokens.push_back(std::min(distinct, n));
  out.dropped = slots - total(out.slots);
  return out;
}

Counts source_offsets(const IncomingSlots& in) {
  const std::size_t ranks = in.slots.size(), local = in.load.size() / ranks;
  Counts offsets{0};
  for (std::size_t expert = 0; expert < local; ++expert) {
    for (std::size_t rank = 0; rank < ranks; ++rank) {
      offsets.push_back(offsets.back() + in.load[rank * local + expert]);
    }
  }
  return offsets;
}

Counts expert_offsets(const IncomingSlots& in) {
  const Counts by_source = source_offsets(in);
  Counts offsets;
  for (std::size_t i = 0; i < by_source.size(); i += in.slots.size()) offsets.push_back(by_source[i]);
  return offsets;
}

ExpertRows order_rows(const IncomingSlots& in, std::span<const std::int32_t> notes,
                      const DispatchOptions& options) {
  const std::int64_t ranks = std::ssize(in.slots), local = std::ssize(in.load) / ranks;
  const std::int64_t rows = total(in.slots), top_k = options.top_k;
  ENSURE(std::ssize(notes) == 2 * rows, "{}: {} notes for {} rows", options.layer, notes.size() / 2, rows);
  ExpertRows out;
  out.expand.resize(at(rows)), out.wire_to_row.resize(at(rows)), out.row_to_wire.resize(at(rows));
  if (options.reduce_at_expert) out.reduce_index.assign(at(total(in.tokens) * top_k), -1);

  const Counts first_token = begins_of(in.tokens);
  Counts next_row = expert_offsets(in);
  std::int64_t wire = 0;
  for (std::int64_t rank = 0; rank < ranks; ++rank) {
    Counts load(at(local));  // as the notes tell it
    std::int64_t last_token = -1, slot = 0;
    for (const std::int64_t end = wire + in.slots[at(rank)]; wire < end; ++wire) {
      const std::int64_t expert = notes[at(2 * wire)], token = notes[at(2 * wire + 1)];
      slot = token == last_token ? slot + 1 : 0;
      ENSURE(expert >= 0 && expert < local && token >= last_token && token < in.tokens[at(rank)] &&
                 slot < top_k && load[at(expert)] < in.load[at(rank * local + expert)],
             "{}: slot {} of rank {} is for expert {} of this rank and token {}, against the counts that it "
             "announced",
             options.layer, wire, rank, expert, token);
      ++load[at(expert)];
      const std::int64_t row = next_row[at(expert)]++, token_row = first_token[at(rank)] + token;
      out.expand[at(row)] = static_cast<std::int32_t>(token_row);
      out.wire_to_row[at(wire)] = static_cast<std::int32_t>(row);
      out.row_to_wire[at(row)] = static_cast<std::int32_t>(wire);
      if (options.reduce_at_expert)
        out.reduce_index[at(token_row * top_k + slot)] = static_cast<std::int32_t>(row);
      last_token = token;
    }
  }
  return out;
}

}  // namespace jevons
