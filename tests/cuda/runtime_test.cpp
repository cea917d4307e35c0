// Memory, streams, events and copies of a GPU behind kernels/core, and the messages when there is none.
#include <cstdlib>

#include "kernels/core/device.h"
#include "kernels/core/error.h"
#include "tests/cuda/gpu_bench.h"

namespace jevons::test {
namespace {

using emulation::Settings;

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace

TEST_CASE("without a driver there is no GPU, and the reason is said", "[emulation]") {
  const EmulationScope scope(Settings{.devices = 0});
  const device::Availability availability = device::availability();
  CHECK(availability.devices == 0);
  CHECK(availability.reason == "no CUDA driver");
}

TEST_CASE("GPUs are counted and selected", "[emulation]") {
  const EmulationScope scope(Settings{.devices = 2});
  CHECK(device::availability().devices == 2);
  device::select(1);
  CHECK(message_of([] { device::select(2); }) ==
        "cudaSetDevice: cudaErrorInvalidDevice (cudaErrorInvalidDevice)");
}

TEST_CASE("streams share no connection to the GPU unless the user wants it", "[emulation]") {
  const char* const name = "CUDA_DEVICE_MAX_CONNECTIONS";
  unsetenv(name);
  device::select(0);
  CHECK(std::string(std::getenv(name)) == "32");
  setenv(name, "8", 1);
  device::select(0);
  CHECK(std::string(std::getenv(name)) == "8");
}

TEST_CASE("copies keep every byte, of any memory and any size", "[device]") {
  GpuBench gpu;
  KernelBench cpu;
  for (std::int64_t n : {0, 1, 63, 5 << 20}) {  // the last takes two staging blocks
    const Tensor host = cpu.integers({n}, 0, 256, DType::kU8);
    CHECK(same_bits(gpu.download(gpu.upload(host)), host));
  }
  const Tensor a = gpu.upload(cpu.integers({7}, 0, 100)), b = gpu.undefined({7}, DType::kI32);
  copy_async(&gpu.stream, b, a);
  CHECK(same_bits(gpu.download(b), gpu.download(a)));
  CHECK(message_of([&] { copy_async(&gpu.stream, b, a.slice(0, 3)); }) != "no error");
}

TEST_CASE("asynchronous copies refuse host memory that is not pinned", "[emulation]") {
  GpuBench gpu;
  std::vector<float> host(8);
  const Tensor pageable{host.data(), {8}, DType::kF32, Device::kCpu};
  CHECK(message_of([&] {
          copy_async(&gpu.stream, gpu.zeros({8}, DType::kF32), pageable);
        }).find("cudaMemcpyAsync") == 0);
  CHECK(emulation::take_findings().at(0) == "cudaMemcpyAsync from what is not pinned memory, or too short");
}

TEST_CASE("buffers are zero unless asked otherwise, and arenas hand out device memory", "[device]") {
  GpuBench gpu;
  for (double value : to_doubles(gpu.download(gpu.zeros({1000}, DType::kF32)))) REQUIRE(value == 0);
  Arena arena(Device::kCuda, "arena", &gpu.stream);
  const ArenaScope scope(arena);
  const Tensor a = arena.alloc({3, 5}, DType::kBF16), b = arena.alloc({4}, DType::kF64);
  CHECK(a.device == Device::kCuda);
  CHECK(static_cast<char*>(b.data) - static_cast<char*>(a.data) == kArenaAlignment);
  zero_async(&gpu.stream, a);
  for (double value : to_doubles(gpu.download(a))) REQUIRE(value == 0);
}

TEST_CASE("memory beyond the GPU's is refused with the sizes, mapped and the pool's too", "[emulation]") {
  const EmulationScope scope(Settings{.mapping = GENERATE(true, false)});
  GpuBench gpu;
  Arena arena(Device::kCuda, "arena", &gpu.stream);
  const std::string words = "out of GPU memory: cannot allocate 18253611008 bytes, ";
  CHECK(message_of([] { Buffer(Device::kCuda, std::size_t{17} << 30); }).find(words) == 0);
  CHECK_THROWS_AS(arena.alloc({std::int64_t{17} << 30}, DType::kU8), device::OutOfMemory);
  arena.reset();
  const std::string said = message_of([&] { arena.alloc({std::int64_t{17} << 30}, DType::kU8); });
  CHECK(said.find("out of GPU memory: cannot allocate ") == 0);
}

TEST_CASE("an arena grows where it lies without a wait, and gives everything back at its end",
          "[emulation]") {
  GpuBench gpu;
  const std::size_t free = device::memory_info().free;
  {
    Arena arena(Device::kCuda, "arena", &gpu.stream);
    const Tensor first = arena.alloc({1000}, DType::kI32);
    zero_async(&gpu.stream, first);
    const std::int64_t waits = emulation::host_waits();
    for (int i = 0; i < 40; ++i) zero_async(&gpu.stream, arena.alloc({700000}, DType::kU8));
    const Tensor across = arena.alloc({9 << 20}, DType::kU8);  // over several pieces
    zero_async(&gpu.stream, across);
    CHECK(emulation::host_waits() == waits);
    CHECK(static_cast<char*>(across.data) + across.bytes() - static_cast<char*>(first.data) ==
          static_cast<std::ptrdiff_t>(arena.used_bytes()));
    for (double value : to_doubles(gpu.download(first))) REQUIRE(value == 0);
    CHECK(arena.held_bytes() <= arena.peak_bytes() + arena.peak_bytes() / 16 + (std::size_t{2} << 20));
    CHECK(device::memory_info().free == free - arena.held_bytes());
    const std::int64_t allocations = emulation::device_allocations();
    arena.reset();
    zero_async(&gpu.stream, arena.alloc({30 << 20}, DType::kU8));
    CHECK(emulation::device_allocations() == allocations);
  }
  CHECK(device::memory_info().free == free);
  CHECK(emulation::take_findings().empty());
}

TEST_CASE("an arena near the end of the GPU's memory grows by what it must", "[emulation]") {
  const EmulationScope scope(Settings{.memory = std::size_t{64} << 20});
  GpuBench gpu;
  Arena arena(Device::kCuda, "arena", &gpu.stream);
  arena.alloc({58 << 20}, DType::kU8);
  arena.alloc({4 << 20}, DType::kU8);
  CHECK(arena.held_bytes() == std::size_t{62} << 20);
  const Arena::Mark mark = arena.mark();
  CHECK_THROWS_AS(arena.alloc({3 << 20}, DType::kU8), device::OutOfMemory);
  arena.release(mark);
  arena.alloc({2 << 20}, DType::kU8);
  CHECK(arena.held_bytes() == std::size_t{64} << 20);
}

TEST_CASE("what the pool holds and nobody uses goes to allocations that would fail without", "[emulation]") {
  const EmulationScope scope(Settings{.memory = std::size_t{64} << 20});
  device::select(0);
  GpuBench gpu;
  const std::size_t kMost = std::size_t{40} << 20;
  Buffer::in_order_of(gpu.stream, kMost);
  CHECK(device::memory_info().pool_unused >= kMost);
  { const Buffer single(Device::kCuda, kMost, Contents::kUndefined); }
  Buffer::in_order_of(gpu.stream, kMost);
  CHECK(device::memory_info().pool_unused >= kMost);
  Arena arena(Device::kCuda, "arena", &gpu.stream);
  arena.alloc({40 << 20}, DType::kU8);
  CHECK(device::memory_info().pool_unused == 0);
  CHECK_THROWS_AS(Buffer(Device::kCuda, kMost), device::OutOfMemory);
}

TEST_CASE("without mapped memory the pool keeps what an arena gives back, and gives it to the next",
          "[emulation]") {
  const EmulationScope scope(Settings{.mapping = false});
  device::select(0);
  GpuBench gpu;
  constexpr std::int64_t kChunk = std::int64_t{2} << 20;
  const auto use_an_arena = [&] { Arena(Device::kCuda, "arena", &gpu.stream).alloc({kChunk}, DType::kU8); };
  use_an_arena();
  const device::MemoryInfo before = device::memory_info();
  CHECK(before.pool_unused >= std::size_t{kChunk});
  use_an_arena();
  const device::MemoryInfo after = device::memory_info();
  CHECK(after.free == before.free);
  CHECK(after.pool_unused == before.pool_unused);
}

TEST_CASE("a GPU that the program cannot use is refused by its name", "[emulation]") {
  {
    const EmulationScope scope(Settings{.pools = false, .mapping = false});
    CHECK(message_of([] { device::select(1); }) ==
          "GPU 1, emulated GPU, compute capability 9.0: its driver has neither mapped memory (cuMemMap) nor "
          "memory pools (cudaMallocAsync); use another GPU, or device: cpu");
  }
  const EmulationScope scope(Settings{.code = false});
  CHECK(message_of([] { device::select(0); }) ==
        "GPU 0, emulated GPU, compute capability 9.0: this program has no code for it; build it with "
        "-DJEVONS_CUDA_ARCHITECTURES=90; use another GPU, or device: cpu");
}

TEST_CASE("events order streams, and an event without a record orders nothing", "[device]") {
  GpuBench gpu;
  const Stream other(Device::kCuda);
  Event event(Device::kCuda);
  other.wait(event);
  event.synchronise();
  const Tensor a = gpu.zeros({4}, DType::kI32);
  const Tensor b = gpu.undefined({4}, DType::kI32);
  gpu.stream.record(event);
  other.wait(event);
  copy_async(&other, b, a);
  other.synchronise();
  for (double value : to_doubles(gpu.download(b))) CHECK(value == 0);
  CHECK(emulation::take_findings().empty());
}

TEST_CASE("the CPU needs no stream") {
  KernelBench cpu;
  const Tensor a = cpu.random({5}, DType::kF32), b = cpu.poisoned({5}, DType::kF32);
  copy_async(nullptr, b, a);
  CHECK(same_bits(a, b));
  const Stream stream(Device::kCpu);
  Event event(Device::kCpu);
  stream.record(event);
  stream.wait(event);
  stream.synchronise();
  zero_async(&stream, b);
  for (double value : to_doubles(b)) CHECK(value == 0);
}

}  // namespace jevons::test
