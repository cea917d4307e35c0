#include "engine.h"

#include <algorithm>
#include <numeric>

#include "block.h"
#include "checker.h"
#include "control.h"
#include "device_memory.h"
#include "streams.h"

namespace emulation {
namespace {

constexpr std::size_t kMostDynamicShared = std::size_t{48} << 10;  // without asking for more, on every GPU

std::mt19937_64& block_order() {
  static std::mt19937_64 random(settings().seed);
  return random;
}

std::vector<unsigned> order_of_blocks(unsigned blocks) {
  std::vector<unsigned> order(blocks);
  std::iota(order.begin(), order.end(), 0u);
  if (settings().order == Order::kReverse) std::reverse(order.begin(), order.end());
  if (settings().order == Order::kRandom) std::shuffle(order.begin(), order.end(), block_order());
  return order;
}

bool legal(const Launch& launch) {
  const dim3 &grid = launch.grid, &block = launch.block;
  const bool grid_fits = grid.x >= 1 && grid.x <= 0x7fffffffu && grid.y >= 1 && grid.y <= 65535 &&
                         grid.z >= 1 && grid.z <= 65535;
  const bool block_fits = block.x >= 1 && block.y >= 1 && block.z >= 1 && block.z <= 64 &&
                          std::size_t{block.x} * block.y * block.z <= 1024;
  return grid_fits && block_fits && launch.shared_bytes <= kMostDynamicShared &&
         launch.argument_bytes <= kMostArgumentBytes;
}

}  // namespace

std::string run_grid(dim3 grid, dim3 threads, std::size_t shared_bytes, const Kernel& kernel) {
  for (unsigned i : order_of_blocks(grid.x * grid.y * grid.z)) {
    const uint3 index{i % grid.x, i / grid.x % grid.y, i / (grid.x * grid.y)};
    if (!block().run(index, grid, threads, shared_bytes, kernel))
      return block().error() + " (block " + std::to_string(i) + ")";
  }
  return {};
}

void seed_engine(std::uint64_t seed) {
  block_order().seed(seed);
  block().seed(seed);
}

void enqueue_kernel(const Launch& launch, cudaStream_t stream, const void* const* pointers,
                    std::size_t num_pointers) {
  if (!legal(launch)) {
    misuse(cudaErrorInvalidConfiguration,
           "launch with a grid, block, shared memory or arguments beyond a GPU's limits");
    return;
  }
  for (std::size_t i = 0; i < num_pointers; ++i) {
    if (pointers[i] == nullptr || on_device(pointers[i], 0)) continue;
    misuse(cudaErrorInvalidValue, "launch: pointer argument " + std::to_string(i) + " is not device memory");
    return;
  }
  const char* arguments = static_cast<const char*>(launch.arguments);
  enqueue(stream, [grid = launch.grid, block = launch.block, shared_bytes = launch.shared_bytes,
                   kernel = Kernel{launch.invoke, {arguments, arguments + launch.argument_bytes}}] {
    const std::string error = run_grid(grid, block, shared_bytes, kernel);
    return error.empty() ? cudaSuccess : misuse(cudaErrorLaunchFailure, error);
  });
}

unsigned running_thread_number() {
  return block().number_of(thread_view);
}
bool in_thread_views(const void* p) {
  return block().holds(p);
}

bool on_stack_of_running_thread(const void* p) {
  const char* stack = block().running().fiber->stack;
  return p >= stack && p < stack + kStackBytes;
}

void block_barrier(Place place) {
  block().barrier(place);
}
Meeting meet(WarpOp op, std::uint32_t mask, std::uint64_t value, Place place) {
  return block().meet(op, mask, value, place);
}
void* shared_variable(const void* key, std::size_t bytes, std::size_t alignment) {
  return block().shared_variable(key, bytes, alignment);
}
void* dynamic_shared() {
  return block().dynamic_shared();
}
void device_error(const char* what, Place place) {
  block().abandon(std::string(what) + " at " + to_string(place));
}

}  // namespace emulation
