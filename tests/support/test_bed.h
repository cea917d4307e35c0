// What a test of the model needs around a layer: mesh, weights, arenas and tensors of one rank.
#pragma once

#include <cstdint>
#include <cstring>
#include <deque>
#include <string_view>

#include "kernels/core/context.h"
#include "kernels/core/rng.h"
#include "parallel/mesh.h"
#include "parallel/param_store.h"

namespace jevons::test {

// Fills a float tensor with mean + std * normal(name, i).
inline void fill_normal(Tensor t, std::string_view name, double std = 1, double mean = 0) {
  if (t.data == nullptr) return;
  const RandomStream stream(17, name);
  for (std::int64_t i = 0; i < t.numel(); ++i) {
    const double value = mean + std * stream.normal(static_cast<std::uint64_t>(i));
    if (t.dtype == DType::kF64) t.ptr<double>()[i] = value;
    if (t.dtype == DType::kF32) t.ptr<float>()[i] = static_cast<float>(value);
    if (t.dtype == DType::kBF16) t.ptr<bf16>()[i] = bf16(static_cast<float>(value));
  }
}

// One element of a float tensor as a double.
inline double element(Tensor t, std::int64_t i) {
  if (t.dtype == DType::kF64) return t.ptr<double>()[i];
  if (t.dtype == DType::kF32) return t.ptr<float>()[i];
  return static_cast<double>(static_cast<float>(t.ptr<bf16>()[i]));
}

// Releases everything and leaves NaN behind, so that whoever reads what it did not write is found in release
// builds too.
inline void reset_and_poison(Arena& arena, std::size_t bytes = std::size_t{1} << 20) {
  arena.reset();
  const Tensor all = arena.alloc({static_cast<std::int64_t>(bytes)}, DType::kU8);
  if (all.data != nullptr) std::memset(all.data, 0xff, all.bytes());
  arena.reset();
}

// Larger than any test's gradients.
inline constexpr std::int64_t kOneBucket = std::int64_t{1} << 40;

class TestBed {
 public:
  explicit TestBed(Communicator& world, DType compute = DType::kF64, const Layout& layout = {},
                   Device device = Device::kCpu, std::int64_t bucket_bytes = kOneBucket)
      : mesh(world, layout),
        store(mesh, device, compute, bucket_bytes),
        stash(device, "stash"),
        work(device, "work") {
    ctx = {.device = device, .compute = compute, .stash = &stash, .work = &work, .listener = &meter};
  }
  TestBed(const TestBed&) = delete;
  TestBed& operator=(const TestBed&) = delete;

  // Call after the layers were built. Weights that start as a constant (norms) get noise, the same on every
  // layout, because a norm whose weights are all 1 hides a forgotten factor.
  void place_weights(std::uint64_t seed = 3) {
    store.allocate();
    store.initialize(seed);
    for (ParamId id = 0; id < store.params().size(); ++id) {
      const ParamSpec& spec = store.params()[id].spec;
      if (spec.init == InitKind::kOnes) fill_normal(store.weight(id), spec.name, 0.2, 1);
      if (spec.init == InitKind::kZeros) fill_normal(store.weight(id), spec.name, 0.2, 0);
    }
  }
  // Tensors that live as long as the bed; zero-filled.
  Tensor tensor(Shape shape, DType dtype) {
    buffers_.emplace_back(ctx.device, static_cast<std::size_t>(shape.numel()) * size_of(dtype));
    return buffers_.back().view(0, shape, dtype);
  }
  Tensor random(Shape shape, std::string_view name, double std = 1) {
    const Tensor t = tensor(shape, ctx.compute);
    fill_normal(t, name, std);
    return t;
  }

  Mesh mesh;
  ParamStore store;
  Arena stash, work;
  WorkMeter meter;
  Context ctx;

 private:
  std::deque<Buffer> buffers_;
};

}  // namespace jevons::test
