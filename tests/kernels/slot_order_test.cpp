// The order of slots against its definition, spelled out with sorts over all slots.
#include "kernels/moe/slot_order.h"

#include <algorithm>
#include <numeric>
#include <set>

#include "kernels/core/error.h"
#include "tests/support/kernel_test.h"

namespace jevons {
namespace {

using test::KernelBench;
using List = std::vector<std::int32_t>;
using Counts = std::vector<std::int64_t>;

std::size_t at(std::int64_t i) {
  return static_cast<std::size_t>(i);
}

struct Case {
  const char* name;
  std::int64_t tokens, top_k;
  SlotRule rule;
  std::int64_t among = 0;  // experts that tokens choose from: the first so many, 0 = all
};

// Sizes around a warp, a block of slots and no multiple of either; the largest have three blocks.
const Case kCases[] = {
    {"no token", 0, 2, {8, 2}},
    {"one token", 1, 3, {8, 4}},
    {"one rank", 37, 2, {6, 1}},
    {"one expert per rank", 40, 3, {4, 4}},
    {"all to one", 70, 1, {8, 4}, 1},
    {"all experts for every token", 33, 4, {4, 2}},
    {"most experts chosen by nobody", 50, 2, {64, 4}, 3},
    {"a full block", 512, 1, {5, 5}},
    {"three blocks", 601, 2, {12, 2}},
    {"a capacity that few reach", 300, 2, {8, 2, 80}},
    {"a capacity that most reach", 300, 3, {8, 4, 20}},
    {"a capacity of one on one rank", 200, 3, {8, 1, 1}},
    {"everyone over capacity", 300, 1, {4, 2, 7}, 1},
};

List choose(const Case& c, const char* name) {
  const RandomStream stream(5, name);
  const std::int64_t among = c.among == 0 ? c.rule.experts : c.among;
  List chosen;
  for (std::int64_t t = 0; t < c.tokens; ++t) {
    List pool(at(among));
    std::iota(pool.begin(), pool.end(), 0);
    for (std::int64_t k = 0; k < c.top_k; ++k) {
      const std::int64_t pick =
          k + static_cast<std::int64_t>(stream.below(static_cast<std::uint64_t>(t * 64 + k), at(among - k)));
      std::swap(pool[at(k)], pool[at(pick)]);
      chosen.push_back(pool[at(k)]);
    }
  }
  return chosen;
}

struct Sorted {
  Counts counts;
  std::int64_t out_of_range = 0, dropped = 0;
  List send_index, slot_flat, slot_row, token_row, notes;
};

// Slots in wire order are the kept ones, sorted by rank; a token's row in a message is its place among the
// tokens that the rank gets. Padding is -1.
Sorted sorted(const Case& c, const List& indices) {
  const std::int64_t slots = std::ssize(indices), local = c.rule.experts / c.rule.ranks;
  const SlotPadding padding = padding_of(c.rule, c.tokens, c.top_k);
  Sorted out{
      Counts(at(c.rule.ranks * (local + 1))), 0, 0, {}, {}, List(at(slots), -1), List(at(slots), -1), {}};
  Counts taken(at(c.rule.experts));
  List kept;
  for (std::int64_t flat = 0; flat < slots; ++flat) {
    const std::int64_t expert = indices[at(flat)];
    if (expert < 0 || expert >= c.rule.experts) {
      ++out.out_of_range;
    } else if (taken[at(expert)]++ < c.rule.capacity) {
      kept.push_back(static_cast<std::int32_t>(flat));
    } else {
      ++out.dropped;
    }
  }
  for (std::int64_t rank = 0; rank < c.rule.ranks; ++rank) {
    std::set<std::int64_t> met;
    for (const std::int32_t flat : kept) {
      const std::int64_t expert = indices[at(flat)], token = flat / c.top_k;
      if (expert / local != rank) continue;
      ++out.counts[at(rank * (local + 1) + expert % local)];
      out.slot_row[at(flat)] = static_cast<std::int32_t>(out.slot_flat.size());
      out.slot_flat.push_back(flat);
      if (met.insert(token).second) {
        out.token_row[at(flat)] = static_cast<std::int32_t>(out.send_index.size());
        out.send_index.push_back(static_cast<std::int32_t>(token));
      }
      out.notes.push_back(static_cast<std::int32_t>(expert % local));
      out.notes.push_back(static_cast<std::int32_t>(met.size()) - 1);
    }
    out.counts[at(rank * (local + 1) + local)] = std::ssize(met);
    if (!padding.fixed()) continue;
    out.send_index.resize(at((rank + 1) * padding.tokens), -1);
    out.slot_flat.resize(at((rank + 1) * padding.slots), -1);
    out.notes.resize(at(2 * (rank + 1) * padding.slots), -1);
  }
  return out;
}

template <class T>
Tensor tensor_of(KernelBench& bench, const std::vector<T>& list, Shape shape) {
  return bench.filled(shape, dtype_of<T>::value,
                      [&](std::int64_t i) { return static_cast<double>(list[at(i)]); });
}

// The first elements of the tensor, as many as `like` has.
template <class T>
std::vector<T> first_of(const Tensor& t, const std::vector<T>& like) {
  REQUIRE(std::ssize(like) <= t.numel());
  return {t.ptr<T>(), t.ptr<T>() + like.size()};
}

// Not -1, which lists may hold.
double poison(std::int64_t) {
  return -12345;
}

SlotLists lists_for(KernelBench& bench, const Case& c) {
  const std::int64_t slots = max_sent_slots(c.rule, c.tokens, c.top_k);
  SlotLists out;
  out.counts = bench.poisoned({c.rule.ranks, c.rule.experts / c.rule.ranks + 1}, DType::kI64);
  out.out_of_range = bench.poisoned({1}, DType::kI64);
  out.dropped = bench.poisoned({1}, DType::kI64);
  out.send_index = bench.filled({max_sent_tokens(c.rule, c.tokens, c.top_k)}, DType::kI32, poison);
  out.slot_flat = bench.filled({slots}, DType::kI32, poison);
  out.slot_row = bench.filled({c.tokens, c.top_k}, DType::kI32, poison);
  out.token_row = bench.filled({c.tokens, c.top_k}, DType::kI32, poison);
  out.notes = bench.filled({slots, 2}, DType::kI32, poison);
  return out;
}

void check_sorted(KernelBench& bench, const Case& c, const List& indices) {
  const Sorted want = sorted(c, indices);
  SlotLists out = lists_for(bench, c);
  bench.run(sort_slots, c.rule, tensor_of(bench, indices, {c.tokens, c.top_k}), out);
  CHECK(first_of(out.counts, want.counts) == want.counts);
  CHECK(*out.out_of_range.ptr<std::int64_t>() == want.out_of_range);
  CHECK(*out.dropped.ptr<std::int64_t>() == want.dropped);
  CHECK(first_of(out.send_index, want.send_index) == want.send_index);
  CHECK(first_of(out.slot_flat, want.slot_flat) == want.slot_flat);
  CHECK(first_of(out.slot_row, want.slot_row) == want.slot_row);
  CHECK(first_of(out.token_row, want.token_row) == want.token_row);
  CHECK(first_of(out.notes, want.notes) == want.notes);
}

// What the last rank receives from all, each of which has routed tokens of its own.
struct Received {
  Counts counts;
  List notes;
  std::int64_t tokens = 0;    // rows that are received
  std::vector<List> by_rank;  // the notes that are none of empty places, by source rank

  std::int64_t positions() const { return std::ssize(notes) / 2; }
};
Received received(const Case& c) {
  const std::int64_t width = c.rule.experts / c.rule.ranks + 1, self = c.rule.ranks - 1;
  const SlotPadding padding = padding_of(c.rule, c.tokens, c.top_k);
  Received in;
  for (std::int64_t rank = 0; rank < c.rule.ranks; ++rank) {
    Case from = c;
    if (!padding.fixed()) from.tokens = rank == 1 ? 0 : c.tokens + rank;  // uneven, and one rank has none
    const Sorted sent = sorted(from, choose(from, std::to_string(rank).c_str()));
    const auto message = sent.counts.begin() + self * width;
    in.counts.insert(in.counts.end(), message, message + width);
    in.tokens += padding.fixed() ? padding.tokens : message[width - 1];
    std::int64_t before = 0;
    for (std::int64_t i = 0; i < self * width; ++i) before += i % width == width - 1 ? 0 : sent.counts[at(i)];
    if (padding.fixed()) before = self * padding.slots;
    const std::int64_t slots = std::accumulate(message, message + width - 1, std::int64_t{0});
    const auto notes = sent.notes.begin() + 2 * before;
    in.by_rank.emplace_back(notes, notes + 2 * slots);
    in.notes.insert(in.notes.end(), notes, notes + 2 * (padding.fixed() ? padding.slots : slots));
  }
  return in;
}

struct Ordered {
  List expand, wire_to_row, row_to_wire, reduce_index;
};
Ordered ordered(const Case& c, const Received& in) {
  const std::int64_t local = c.rule.experts / c.rule.ranks, width = local + 1;
  const SlotPadding padding = padding_of(c.rule, c.tokens, c.top_k);
  Ordered out{{}, List(at(in.positions()), -1), {}, List(at(in.tokens * c.top_k), -1)};
  for (std::int64_t expert = 0; expert < local; ++expert) {
    std::int64_t first_wire = 0, first_token = 0;
    for (std::int64_t rank = 0; rank < c.rule.ranks; ++rank) {
      const List& notes = in.by_rank[at(rank)];
      for (std::int64_t i = 0; i < std::ssize(notes) / 2; ++i) {
        if (notes[at(2 * i)] != expert) continue;
        out.wire_to_row[at(first_wire + i)] = static_cast<std::int32_t>(out.expand.size());
        out.row_to_wire.push_back(static_cast<std::int32_t>(first_wire + i));
        out.expand.push_back(static_cast<std::int32_t>(first_token) + notes[at(2 * i + 1)]);
      }
      first_wire += padding.fixed() ? padding.slots : std::ssize(notes) / 2;
      first_token += padding.fixed() ? padding.tokens : in.counts[at(rank * width + local)];
      if (!padding.fixed()) continue;
      out.expand.resize(at((expert * c.rule.ranks + rank + 1) * padding.capacity), -1);
      out.row_to_wire.resize(out.expand.size(), -1);
    }
  }
  for (const std::int32_t row : out.wire_to_row) {
    if (row < 0) continue;
    auto* slot = out.reduce_index.data() + out.expand[at(row)] * c.top_k;
    while (*slot >= 0) ++slot;
    *slot = row;
  }
  return out;
}

RowLists rows_for(KernelBench& bench, const Case& c, const Received& in) {
  const SlotPadding padding = padding_of(c.rule, c.tokens, c.top_k);
  const Shape positions{in.positions()},
      rows{padding.fixed() ? c.rule.experts * padding.capacity : in.positions()};
  return {bench.filled(rows, DType::kI32, poison), bench.filled(positions, DType::kI32, poison),
          bench.filled(rows, DType::kI32, poison), bench.filled({in.tokens, c.top_k}, DType::kI32, poison),
          bench.poisoned({4}, DType::kI64)};
}

RowLists order(KernelBench& bench, const Case& c, const Received& in) {
  const Tensor counts = tensor_of(bench, in.counts, {c.rule.ranks, std::ssize(in.counts) / c.rule.ranks});
  const RowLists out = rows_for(bench, c, in);
  bench.run(order_rows, padding_of(c.rule, c.tokens, c.top_k), counts,
            tensor_of(bench, in.notes, {in.positions(), 2}), c.top_k, out);
  return out;
}

// Whether every entry is -1 or in [0, size).
bool in_range(const Tensor& list, std::int64_t size) {
  return std::ranges::all_of(list.span<std::int32_t>(), [&](std::int32_t i) { return i >= -1 && i < size; });
}

// And none but -1 stands there twice.
bool one_to_one(const Tensor& list, std::int64_t size) {
  if (!in_range(list, size)) return false;
  const auto entries = list.span<std::int32_t>();
  std::set<std::int32_t> seen(entries.begin(), entries.end());
  seen.erase(-1);
  return std::ssize(seen) == std::ssize(entries) - std::ranges::count(entries, -1);
}

}  // namespace

TEST_CASE("slots are sorted by rank, with the counts, lists and notes of their order", "[slots]") {
  for (const Case& c : kCases) {
    INFO(c.name);
    KernelBench bench;
    check_sorted(bench, c, choose(c, "indices"));
  }
}

TEST_CASE("a slot whose index is no expert is dropped and counted", "[slots]") {
  for (const Case& c : {Case{"", 100, 2, {8, 2}}, Case{"", 100, 2, {8, 2, 15}}}) {
    KernelBench bench;
    List indices = choose(c, "indices");
    for (const std::size_t slot : {std::size_t{0}, std::size_t{37}, indices.size() - 1})
      indices[slot] = slot == 37 ? -5 : 8;
    check_sorted(bench, c, indices);
  }
}

TEST_CASE("received slots are ordered by expert, source rank, token, slot", "[slots]") {
  for (const Case& c : kCases) {
    INFO(c.name);
    KernelBench bench;
    const Received in = received(c);
    const Ordered want = ordered(c, in);
    const RowLists out = order(bench, c, in);
    CHECK(first_of(out.expand, want.expand) == want.expand);
    CHECK(first_of(out.wire_to_row, want.wire_to_row) == want.wire_to_row);
    CHECK(first_of(out.row_to_wire, want.row_to_wire) == want.row_to_wire);
    CHECK(first_of(out.reduce_index, want.reduce_index) == want.reduce_index);
    CHECK(first_of(out.contradiction, Counts(4)) == Counts(4));
  }
}

TEST_CASE("the first note against the counts is reported, and lists stay in range", "[slots]") {
  const Case c = GENERATE(Case{"packed", 300, 3, {6, 3}}, Case{"padded", 300, 3, {6, 3, 160}},
                          Case{"padded and full", 300, 3, {6, 3, 100}});
  const SlotPadding padding = padding_of(c.rule, c.tokens, c.top_k);
  INFO(c.name);
  const Received good = received(c);
  const std::int64_t of_first = std::ssize(good.by_rank[0]) / 2;
  const std::int64_t of_last =
      good.positions() - (padding.fixed() ? padding.slots : std::ssize(good.by_rank[2]) / 2);
  struct Wrong {
    const char* what;
    std::int64_t wire;
    std::int32_t expert, token;
  };
  const auto expert = [&](std::int64_t wire) { return good.notes[at(2 * wire)]; };
  const auto token = [&](std::int64_t wire) { return good.notes[at(2 * wire + 1)]; };
  const auto check = [&](const Wrong& w, std::int64_t found) {
    INFO(w.what << " at " << w.wire);
    KernelBench bench;
    Received in = good;
    in.notes[at(2 * w.wire)] = w.expert, in.notes[at(2 * w.wire + 1)] = w.token;
    const RowLists out = order(bench, c, in);
    const Counts want{found + 1, found < of_last ? 0 : 2, in.notes[at(2 * found)],
                      in.notes[at(2 * found + 1)]};
    CHECK(first_of(out.contradiction, want) == want);
    CHECK(one_to_one(out.wire_to_row, out.expand.numel()));
    CHECK(one_to_one(out.row_to_wire, in.positions()));
    CHECK(in_range(out.expand, in.tokens));
    if (!padding.fixed()) CHECK(std::ranges::count(out.wire_to_row.span<std::int32_t>(), -1) == 0);
  };
  const std::int64_t middle = of_last + 20;
  for (const Wrong& w : {Wrong{"no expert", middle, 2, token(middle)}, Wrong{"no expert", 3, -1, token(3)},
                         Wrong{"no token", middle, expert(middle), 100000},
                         Wrong{"before the token before", middle, expert(middle), 0},
                         Wrong{"negative token", 0, expert(0), -7}})
    check(w, w.wire);
  if (padding.fixed() && of_first < padding.slots)
    check({"a note in an empty place", of_first, 1, 0}, of_first);
  // One slot more for an expert than announced: found at the last one of that rank.
  std::int64_t last = of_first - 1;
  while (expert(last) == expert(0)) --last;
  check({"another expert", 0, 1 - expert(0), token(0)}, last);
}

TEST_CASE("with a capacity lists stay in range whatever the counts are", "[slots]") {
  const Case c{"", 300, 3, {6, 3, 160}};
  const Received good = received(c);
  for (const std::int64_t wrong : {std::int64_t{-5}, std::int64_t{0}, std::int64_t{1} << 40}) {
    for (std::size_t i = 0; i < good.counts.size(); ++i) {
      INFO("count " << i << " is " << wrong);
      KernelBench bench;
      Received in = good;
      in.counts[i] = wrong;
      const RowLists out = order(bench, c, in);
      CHECK(one_to_one(out.wire_to_row, out.expand.numel()));
      CHECK(one_to_one(out.row_to_wire, in.positions()));
      CHECK(in_range(out.expand, in.tokens));
      CHECK(in_range(out.reduce_index, out.expand.numel()));
    }
  }
}

TEST_CASE("map_indices goes through a list and leaves -1", "[slots]") {
  KernelBench bench;
  for (const std::int64_t n : {0, 1, 33, 9000}) {
    const Tensor map = bench.integers({50}, 0, 1000), index = bench.integers({n}, -1, 50);
    const Tensor before = bench.clone(index);
    bench.run(map_indices, map, index);
    for (std::int64_t i = 0; i < n; ++i) {
      const std::int32_t from = before.ptr<std::int32_t>()[i];
      REQUIRE(index.ptr<std::int32_t>()[i] == (from < 0 ? -1 : map.ptr<std::int32_t>()[from]));
    }
  }
}

TEST_CASE("the order of slots checks its tensors and runs on the meta device", "[slots]") {
  KernelBench bench;
  const Case c{"", 10, 2, {8, 2}};
  SlotLists out = lists_for(bench, c);
  const Tensor indices = bench.integers({10, 2}, 0, 8);
  CHECK_THROWS_WITH(sort_slots(bench.ctx, {8, 3}, indices, out),
                    Catch::Matchers::ContainsSubstring("8 experts on 3 ranks"));
  out.notes = bench.poisoned({10, 2}, DType::kI32);
  CHECK_THROWS_WITH(sort_slots(bench.ctx, c.rule, indices, out),
                    Catch::Matchers::ContainsSubstring("sort_slots: notes is i32 (10, 2)"));
  KernelBench meta(1, Device::kMeta);
  sort_slots(meta.ctx, c.rule, meta.integers({10, 2}, 0, 8), lists_for(meta, c));
  order_rows(meta.ctx, {}, meta.poisoned({2, 5}, DType::kI64), meta.poisoned({20, 2}, DType::kI32), 2,
             rows_for(meta, c, {{}, List(40), 12, {}}));
  CHECK(meta.meter[WorkKind::kRow].calls == 2);
}

}  // namespace jevons
