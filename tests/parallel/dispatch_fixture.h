// One rank's dispatcher with its arenas.
#pragma once

#include <algorithm>
#include <string_view>

#include "kernels/core/rng.h"
#include "parallel/token_dispatcher.h"
#include "tests/parallel/batches.h"

namespace jevons::test {

// One rank's context, arenas and dispatcher.
struct Rank {
  Rank(Communicator& ep, const Batch& batch, DispatchOptions options = {}, Device device = Device::kCpu)
      : comm(ep),
        batch(batch),
        stash(device, "stash"),
        work(device, "work"),
        dispatcher(ep, filled(options, batch)) {
    ctx = {.device = device, .stash = &stash, .work = &work, .listener = &meter};
    ep.set_listener(&meter);
  }
  static DispatchOptions filled(DispatchOptions options, const Batch& batch) {
    options.num_experts = batch.experts, options.top_k = batch.top_k, options.layer = "layers.3.moe";
    return options;
  }
  std::int64_t tokens() const { return batch.held(comm.rank()); }
  DispatchPlan plan() {
    const Tensor indices = stash.alloc({tokens(), batch.top_k}, DType::kI32);
    if (indices.data != nullptr && indices.numel() > 0) {
      std::copy_n(batch.indices.begin() + batch.first(comm.rank()) * batch.top_k, indices.numel(),
                  indices.ptr<std::int32_t>());
    }
    return dispatcher.plan(ctx, indices, stash);
  }
  // value(global row, column) on this rank's tokens.
  template <class F>
  Tensor rows(std::int64_t cols, DType dtype, F value) {
    const Tensor t = stash.alloc({tokens(), cols}, dtype);
    for (std::int64_t i = 0; i < t.numel() && t.data != nullptr; ++i) {
      const double v = value(batch.first(comm.rank()) + i / cols, i % cols);
      if (dtype == DType::kF32) t.ptr<float>()[i] = static_cast<float>(v);
      if (dtype == DType::kBF16) t.ptr<bf16>()[i] = bf16(static_cast<float>(v));
      if (dtype == DType::kF64) t.ptr<double>()[i] = v;
    }
    return t;
  }
  Tensor out(const DispatchPlan& plan, Tensor x) {
    const Tensor y = stash.alloc({plan.rows, x.cols()}, x.dtype);
    dispatcher.out_end(ctx, plan, dispatcher.out_begin(ctx, plan, x), y);
    return y;
  }
  Tensor home(const DispatchPlan& plan, Tensor x) {
    const Tensor y = stash.alloc({plan.tokens, x.cols()}, x.dtype);
    dispatcher.home_end(ctx, plan, dispatcher.home_begin(ctx, plan, x), y);
    return y;
  }

  Communicator& comm;
  const Batch& batch;
  Arena stash, work;
  WorkMeter meter;
  TokenDispatcher dispatcher;
  Context ctx;
};

inline double normal(std::string_view name, std::int64_t row, std::int64_t col) {
  return RandomStream(3, name).normal(static_cast<std::uint64_t>(row * 1000 + col));
}

}  // namespace jevons::test
