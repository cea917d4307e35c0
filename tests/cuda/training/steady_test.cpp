// What a step on a GPU does not do once it has its memory: allocate, and make the host wait. The emulated GPU
// counts.
#include "tests/cuda/training/run.h"
#include "tests/cuda_emulation/control.h"

namespace jevons::test {
namespace {

// Of the host for the GPU, in a step that needs no memory of its own any more.
std::int64_t host_waits(std::vector<std::string> overrides) {
  overrides.emplace_back("optimizer.lr=0.01");
  Run gpu(DeviceChoice::kCuda, overrides);
  gpu.step(0);
  gpu.step(0);
  const std::int64_t before = emulation::host_waits();
  gpu.step(0);
  return emulation::host_waits() - before;
}

}  // namespace

TEST_CASE("in a pass the host waits once per MoE layer for a GPU, and never with a capacity", "[training]") {
  const std::string capacity = "model.moe.capacity_factor=2", deep = "model.num_layers=4";
  const std::int64_t per_step = host_waits({capacity});
  CHECK(per_step == 5);
  CHECK(host_waits({capacity, "train.micro_batch_size=2"}) == per_step);
  CHECK(host_waits({capacity, deep}) == per_step);
  // Two passes; the first layer is dense.
  CHECK(host_waits({}) == per_step + 2);
  CHECK(host_waits({deep}) == per_step + 6);
  CHECK(host_waits({deep, "train.micro_batch_size=2"}) == per_step + 3);
}

TEST_CASE("steps on a GPU allocate nothing once the second is done", "[training]") {
  const std::string capacity = GENERATE("model.moe.capacity_factor=0", "model.moe.capacity_factor=1");
  Run gpu(DeviceChoice::kCuda, {"optimizer.lr=0.01", capacity});  // the routing hardly changes
  gpu.step(0);
  gpu.step(0);
  const std::int64_t before = emulation::device_allocations();
  gpu.step(0);
  gpu.step(0);
  CHECK(emulation::device_allocations() == before);
}

}  // namespace jevons::test
