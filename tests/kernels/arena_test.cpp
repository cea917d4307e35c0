// What an arena holds beside what it hands out, with a range of addresses and, where none can be reserved,
// with chunks.
#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "kernels/core/context.h"
#include "kernels/core/error.h"
#include "kernels/core/rng.h"
#include "tests/support/catch.h"

namespace jevons::test {
namespace {

// While it lives this process has a limit on addresses, so high that it forbids nothing.
class LimitOnAddresses {
 public:
  LimitOnAddresses() {
    getrlimit(RLIMIT_AS, &before_);
    rlimit limit = before_;
    limit.rlim_cur = std::min<rlim_t>(rlim_t{1} << 62, before_.rlim_max);
    setrlimit(RLIMIT_AS, &limit);
  }
  ~LimitOnAddresses() { setrlimit(RLIMIT_AS, &before_); }
  LimitOnAddresses(const LimitOnAddresses&) = delete;
  LimitOnAddresses& operator=(const LimitOnAddresses&) = delete;

 private:
  rlimit before_{};
};

// What a micro-batch of OLMoE (16 layers, 64 experts, top-8) saves, with widths divided by 32 and a quarter
// of the tokens: tensors of the T tokens and of the rows that came to the rank's experts.
void save_micro_batch(Arena& stash, std::int64_t step, double spread) {
  constexpr std::int64_t kTokens = 512, kTopK = 8, kModel = 64, kHidden = 32, kExperts = 64;
  const RandomStream random(static_cast<std::uint64_t>(step), "rows");
  for (std::uint64_t layer = 0; layer < 16; ++layer) {
    for (int i = 0; i < 4; ++i) stash.alloc({kTokens, kModel}, DType::kBF16);  // h, q with k, v, o
    stash.alloc({kTokens, 2}, DType::kF32);                                    // log-sum-exp
    stash.alloc({kTokens, kExperts}, DType::kF32);                             // scores
    stash.alloc({kTokens, kTopK}, DType::kI32);
    const double n = kTokens * kTopK * (1 + spread * random.normal(layer));
    const auto rows = static_cast<std::int64_t>(std::max(0.0, n));
    for (int i = 0; i < 3; ++i) stash.alloc({rows}, DType::kI32);  // lists
    stash.alloc({rows, kModel}, DType::kBF16);
    stash.alloc({rows, 2 * kHidden}, DType::kBF16);
    stash.alloc({rows, kHidden}, DType::kBF16);
    stash.alloc({rows, kModel}, DType::kBF16);
  }
}

// The most held over the most handed out, at the end of any of 25 steps from `first` on.
double waste(double spread, int first) {
  Arena stash(Device::kCpu, "stash");
  double most = 0;
  for (int step = 0; step < 25; ++step) {
    stash.reset();
    save_micro_batch(stash, step, spread);
    if (step < first) continue;
    most = std::max(most, static_cast<double>(stash.held_bytes()) / static_cast<double>(stash.peak_bytes()));
  }
  return most;
}

}  // namespace

TEST_CASE("an arena holds at most a tenth more than its peak, however sizes vary from step to step",
          "[arena]") {
  const double spread = GENERATE(0.0, 0.005, 0.02, 0.1);
  INFO("standard deviation of the rows " << spread);
  CHECK(waste(spread, 0) <= 1.1);
  // Chunks become one at the next step's begin only.
  const LimitOnAddresses limited;
  CHECK(waste(spread, 1) <= 1.2);
}

TEST_CASE("an arena grows where it lies", "[arena]") {
  Arena arena(Device::kCpu, "test");
  const Tensor first = arena.alloc({1000}, DType::kI32);
  for (std::int32_t i = 0; i < 1000; ++i) first.ptr<std::int32_t>()[i] = i;
  const auto* end = static_cast<const std::byte*>(first.data) + 4096;
  for (std::int64_t rows = 1; rows < 5000; rows = 2 * rows + 1) {
    const Tensor next = arena.alloc({rows, 256}, DType::kI32);
    CHECK(next.data == end);
    CHECK(reinterpret_cast<std::uintptr_t>(next.data) % kArenaAlignment == 0);
    end += rows * 1024;
    next.ptr<std::int32_t>()[next.numel() - 1] = 7;  // there is memory up to its end
  }
  for (std::int32_t i = 0; i < 1000; ++i) REQUIRE(first.ptr<std::int32_t>()[i] == i);
  const std::size_t held = arena.held_bytes();
  arena.reset();
  CHECK(arena.held_bytes() == held);
  CHECK(arena.alloc({1}, DType::kU8).data == first.data);
}

TEST_CASE("an arena without a range of addresses keeps its tensors where they are", "[arena]") {
  const LimitOnAddresses limited;
  Arena arena(Device::kCpu, "test");
  std::vector<Tensor> tensors;
  for (std::int64_t rows : {100, 3 << 20, 70, 0, 5 << 20, 1}) {
    tensors.push_back(arena.alloc({rows}, DType::kU8));
    std::fill_n(tensors.back().ptr<std::uint8_t>(), rows, static_cast<std::uint8_t>(tensors.size()));
  }
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    for (std::uint8_t byte : tensors[i].span<std::uint8_t>()) REQUIRE(byte == i + 1);
  }
  const Arena::Mark mark = arena.mark();
  arena.alloc({20 << 20}, DType::kU8);
  arena.release(mark);
  for (std::uint8_t byte : tensors[4].span<std::uint8_t>()) REQUIRE(byte == 5);
}

TEST_CASE("memory that the host has not is refused with the sizes, and what is held stays", "[arena]") {
  Arena arena(Device::kCpu, "test");
  const Tensor some = arena.alloc({64}, DType::kU8);
  some.ptr<std::uint8_t>()[0] = 3;
  const std::size_t held = arena.held_bytes();
  const Arena::Mark mark = arena.mark();
  CHECK_THROWS_AS(arena.alloc({std::int64_t{1} << 50}, DType::kU8), Error);
  arena.release(mark);
  CHECK(arena.held_bytes() == held);
  CHECK(some.ptr<std::uint8_t>()[0] == 3);
}

}  // namespace jevons::test
