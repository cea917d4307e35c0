// The fixed tree over slots: same bits in any order of arrival and for any split into runs of slots.
#include "parallel/slot_sum.h"

#include <algorithm>
#include <numeric>
#include <random>
#include <vector>

#include "kernels/core/error.h"
#include "tests/support/catch.h"
#include "tests/support/test_bed.h"

namespace jevons {
namespace {

constexpr std::int64_t kNumel = 37;

struct Slots {
  explicit Slots(std::int64_t count) : values(static_cast<std::size_t>(count * kNumel)) {
    test::fill_normal({values.data(), {count * kNumel}, DType::kF32, Device::kCpu}, "slots");
  }
  Tensor operator[](std::int64_t slot) {
    return {values.data() + slot * kNumel, {kNumel}, DType::kF32, Device::kCpu};
  }
  std::vector<float> values;
};

std::vector<float> copy_of(Tensor t) {
  const auto values = t.span<float>();
  return {values.begin(), values.end()};
}

SlotSum new_sum() {
  return SlotSum(Device::kCpu, kNumel, DType::kF32);
}

std::vector<float> sum_in_order(Slots& slots, std::int64_t count, const std::vector<std::int64_t>& order) {
  SlotSum sum = new_sum();
  for (std::int64_t slot : order) sum.put({}, count, {0, slot}, slots[slot]);
  return copy_of(sum.value(root_of(count)));
}

// By the definition: left half plus right half.
float tree(Slots& slots, std::int64_t begin, std::int64_t end, std::int64_t size, std::int64_t i) {
  if (size == 1) return slots[begin].ptr<float>()[i];
  const std::int64_t middle = begin + size / 2;
  const float left = tree(slots, begin, std::min(middle, end), size / 2, i);
  return middle >= end ? left : left + tree(slots, middle, end, size / 2, i);
}

}  // namespace

TEST_CASE("slot sum: the tree of the definition, in any order of arrival", "[slot_sum]") {
  std::mt19937_64 random(1);
  for (std::int64_t count : {1, 2, 3, 4, 6, 7, 8, 12, 13, 16}) {
    CAPTURE(count);
    Slots slots(count);
    std::vector<std::int64_t> order(static_cast<std::size_t>(count));
    std::iota(order.begin(), order.end(), 0);
    const std::vector<float> want = sum_in_order(slots, count, order);
    const std::int64_t size = std::int64_t{1} << root_of(count).level;
    for (std::int64_t i = 0; i < kNumel; ++i)
      CHECK(want[static_cast<std::size_t>(i)] == tree(slots, 0, count, size, i));
    for (int round = 0; round < 5; ++round) {
      std::shuffle(order.begin(), order.end(), random);
      CHECK(sum_in_order(slots, count, order) == want);
    }
  }
}

TEST_CASE("slot sum: runs of slots on several ranks meet in the same tree", "[slot_sum]") {
  for (std::int64_t count : {6, 8, 12, 15, 24}) {
    Slots slots(count);
    std::vector<std::int64_t> order(static_cast<std::size_t>(count));
    std::iota(order.begin(), order.end(), 0);
    const std::vector<float> want = sum_in_order(slots, count, order);
    for (std::int64_t ranks = 1; ranks <= count; ++ranks) {
      if (count % ranks != 0) continue;
      CAPTURE(count, ranks);
      SlotSum all = new_sum();
      for (std::int64_t rank = ranks; rank-- > 0;) {
        const std::int64_t begin = rank * (count / ranks), end = begin + count / ranks;
        SlotSum mine = new_sum();
        for (std::int64_t slot = begin; slot < end; ++slot) mine.put({}, count, {0, slot}, slots[slot]);
        std::int64_t covered = 0;
        for (SlotNode node : nodes_of(begin, end, count)) {
          all.put({}, count, node, mine.value(node));
          covered += std::min((node.index + 1) << node.level, count) - (node.index << node.level);
        }
        CHECK(covered == end - begin);
      }
      CHECK(copy_of(all.value(root_of(count))) == want);
    }
  }
}

TEST_CASE("slot sum: a missing slot is named, memory is used again", "[slot_sum]") {
  Slots slots(8);
  SlotSum sum = new_sum();
  for (std::int64_t slot = 0; slot < 7; ++slot) sum.put({}, 8, {0, slot}, slots[slot]);
  CHECK_THROWS_WITH(sum.value(root_of(8)),
                    Catch::Matchers::ContainsSubstring("slots 0 to 7 is not complete"));
  const std::size_t bytes = sum.bytes();
  CHECK(bytes == 3 * kNumel * sizeof(float));  // [0, 4), [4, 6) and 6
  sum.clear();
  for (std::int64_t slot = 0; slot < 8; ++slot) sum.put({}, 8, {0, slot}, slots[slot]);
  CHECK(sum.bytes() == bytes);
  sum.value(root_of(8));
}

}  // namespace jevons
