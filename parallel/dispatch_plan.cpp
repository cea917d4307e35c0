#include "parallel/dispatch_plan.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace jevons {
namespace {

using Counts = std::vector<std::int64_t>;

std::size_t at(std::int64_t i) {
  return static_cast<std::size_t>(i);
}

}  // namespace

SlotCounts read_counts(std::span<const std::int64_t> messages, std::int64_t ranks) {
  SlotCounts counts;
  const std::size_t width = messages.size() / at(ranks);
  for (std::int64_t rank = 0; rank < ranks; ++rank) {
    const auto message = messages.subspan(at(rank) * width, width);
    const auto load = message.first(width - 1);
    counts.tokens.push_back(message.back());
    counts.slots.push_back(std::accumulate(load.begin(), load.end(), std::int64_t{0}));
    counts.load.insert(counts.load.end(), load.begin(), load.end());
  }
  return counts;
}

SlotCounts balanced_counts(std::int64_t tokens, const DispatchOptions& options, std::int64_t ranks) {
  const std::int64_t experts = options.num_experts, local = experts / ranks, slots = tokens * options.top_k;
  double miss = 1;  // probability that none of a token's experts is on a given rank
  for (std::int64_t k = 0; k < options.top_k; ++k) {
    miss *= static_cast<double>(std::max<std::int64_t>(experts - local - k, 0)) /
            static_cast<double>(experts - k);
  }
  SlotCounts out;
  out.slots.assign(at(ranks), 0);
  for (std::int64_t expert = 0; expert < experts; ++expert) {
    const std::int64_t even = (expert + 1) * slots / experts - expert * slots / experts;
    out.load.push_back(even);
    out.slots[at(expert / local)] += out.load.back();
  }
  const std::int64_t distinct = std::llround(static_cast<double>(tokens) * (1 - miss));
  for (std::int64_t n : out.slots) out.tokens.push_back(std::min(distinct, n));
  return out;
}

SlotCounts padded_counts(const SlotPadding& padding, std::int64_t experts, std::int64_t ranks) {
  return {Counts(at(ranks), padding.tokens), Counts(at(ranks), padding.slots),
          Counts(at(experts), padding.capacity)};
}

SlotCounts received_if_alike(const SlotCounts& sent, std::int64_t self) {
  const std::size_t ranks = sent.slots.size(), local = sent.load.size() / ranks;
  SlotCounts in{Counts(ranks, sent.tokens[at(self)]), Counts(ranks, sent.slots[at(self)]), {}};
  const auto load = sent.load.begin() + self * static_cast<std::int64_t>(local);
  for (std::size_t rank = 0; rank < ranks; ++rank)
    in.load.insert(in.load.end(), load, load + static_cast<std::int64_t>(local));
  return in;
}

std::int64_t capacity(std::int64_t tokens, const DispatchOptions& options) {
  if (options.capacity_factor <= 0) return kNoCapacity;
  const double even = static_cast<double>(tokens * options.top_k) / static_cast<double>(options.num_experts);
  const double most = std::ceil(options.capacity_factor * even);  // may be more than an integer can hold
  return most < static_cast<double>(tokens) ? static_cast<std::int64_t>(most) : tokens;
}

Counts source_offsets(const SlotCounts& received) {
  const std::size_t ranks = received.slots.size(), local = received.load.size() / ranks;
  Counts offsets{0};
  for (std::size_t expert = 0; expert < local; ++expert) {
    for (std::size_t rank = 0; rank < ranks; ++rank) {
      offsets.push_back(offsets.back() + received.load[rank * local + expert]);
    }
  }
  return offsets;
}

Counts expert_offsets(const SlotCounts& received) {
  const Counts by_source = source_offsets(received);
  Counts offsets;
  for (std::size_t i = 0; i < by_source.size(); i += received.slots.size()) offsets.push_back(by_source[i]);
  return offsets;
}

}  // namespace jevons
