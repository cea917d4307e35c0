// Tensors, memory and random numbers.
#include <cmath>
#include <vector>

#include "kernels/core/context.h"
#include "kernels/core/error.h"
#include "kernels/core/rng.h"
#include "tests/support/catch.h"

namespace jevons {

TEST_CASE("philox reproduces the published test vectors", "[core]") {
  // Random123 kat_vectors, philox4x32 10 rounds.
  CHECK(philox4x32({0, 0, 0, 0}, {0, 0}) ==
        std::array<std::uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}) ==
        std::array<std::uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
}

TEST_CASE("normal numbers have mean 0 and variance 1", "[core]") {
  const RandomStream stream(7, "weights");
  double sum = 0, squares = 0;
  const int n = 20000;
  for (int i = 0; i < n; ++i) {
    const double x = stream.normal(static_cast<std::uint64_t>(i));
    sum += x, squares += x * x;
  }
  CHECK(std::abs(sum / n) < 0.03);
  CHECK(std::abs(squares / n - 1) < 0.04);
  CHECK(stream.normal(5) == RandomStream(7, "weights").normal(5));
  CHECK(stream.normal(5) != RandomStream(8, "weights").normal(5));
  CHECK(stream.normal(5) != RandomStream(7, "weight").normal(5));
}

TEST_CASE("bf16 rounds to nearest even", "[core]") {
  CHECK(static_cast<float>(bf16(1.0f)) == 1.0f);
  CHECK(static_cast<float>(bf16(1.00390625f)) == 1.0f);       // half way: to even
  CHECK(static_cast<float>(bf16(1.01171875f)) == 1.015625f);  // half way: to even, upwards
  CHECK(std::isnan(static_cast<float>(bf16(std::nanf("")))));
  CHECK(std::isinf(static_cast<float>(bf16(3.4e38f))));
}

TEST_CASE("tensor slices and views", "[core]") {
  Buffer buffer(Device::kCpu, 24 * sizeof(float));
  const Tensor t = buffer.view(0, {2, 3, 4}, DType::kF32);
  CHECK(t.rows() == 6);
  CHECK(t.slice(1, 2).ptr<float>() == t.ptr<float>() + 12);
  CHECK(t.reshape({6, 4}).shape == Shape{6, 4});
  CHECK_THROWS_AS(t.reshape({5, 5}), Error);
  CHECK_THROWS_AS(t.ptr<double>(), Error);
  CHECK_THROWS_AS(t.slice(1, 3), Error);
  CHECK_THROWS_AS(buffer.view(4, {24}, DType::kF32), Error);
}

TEST_CASE("a tensor of no elements never has the address of one with some", "[core]") {
  Arena arena(Device::kCpu, "test");
  std::vector<Tensor> tensors;
  for (std::int64_t rows : {0, 3, 0, 0, 5, 0}) tensors.push_back(arena.alloc({rows, 7}, DType::kF32));
  for (std::size_t a = 0; a < tensors.size(); ++a) {
    CHECK(tensors[a].data != nullptr);
    for (std::size_t b = 0; b < a; ++b) CHECK(tensors[a].data != tensors[b].data);
  }
  Arena counted(Device::kMeta, "test");
  for (const Tensor& t : tensors) counted.alloc(t.shape, t.dtype);
  CHECK(counted.used_bytes() == arena.used_bytes());

  // Views of nothing: of a buffer, of rows, past the end where the next tensor begins, of nothing itself.
  const Tensor rows = tensors[1];
  const Buffer buffer(Device::kCpu, 64), none(Device::kCpu, 0);
  for (const Tensor& empty : {rows.slice(0, 0), rows.slice(1, 1), rows.slice(3, 3), tensors[0].slice(0, 0),
                              buffer.view(0, {0}, DType::kF32), buffer.view(64, {0, 2}, DType::kU8),
                              none.view(0, {0}, DType::kF64)}) {
    CHECK(empty.numel() == 0);
    CHECK(empty.data == address_of_nothing());
  }
}

TEST_CASE("arena releases to a mark and keeps its peak; the meta arena counts the same", "[core]") {
  for (Device device : {Device::kCpu, Device::kMeta}) {
    Arena arena(device, "test");
    const Tensor first = arena.alloc({10}, DType::kF32);
    const Arena::Mark mark = arena.mark();
    arena.alloc({40 << 20}, DType::kU8);
    arena.alloc({3, 3}, DType::kBF16);
    arena.release(mark);
    CHECK(arena.used_bytes() == kArenaAlignment);
    CHECK(arena.peak_bytes() == (40u << 20) + 2 * kArenaAlignment);
    CHECK((first.data != nullptr) == (device == Device::kCpu));
    CHECK((arena.held_bytes() >= arena.peak_bytes()) == (device == Device::kCpu));
  }
}

TEST_CASE("a phase clock's phases add up to the time since its start", "[core]") {
  const auto start = PhaseClock::Clock::now() - std::chrono::seconds(2);
  PhaseClock clock(start);
  {
    const PhaseScope data(&clock, Phase::kData);
    const PhaseScope nested(&clock, Phase::kDispatch);
  }
  CHECK(clock.current() == Phase::kInit);
  double sum = 0;
  for (double s : clock.seconds()) sum += s;
  const double wall = std::chrono::duration<double>(PhaseClock::Clock::now() - start).count();
  CHECK(sum > 2.0);
  CHECK(sum <= wall);
}

}  // namespace jevons
