// Time of every row kernel beside memcpy, in one run.
// usage: bench_rows [rows] [cols] [threads]   defaults: 4096 256 1
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <functional>

#include "kernels/activation.h"
#include "kernels/core/rng.h"
#include "kernels/cross_entropy.h"
#include "kernels/elementwise.h"
#include "kernels/embedding.h"
#include "kernels/moe/permute.h"
#include "kernels/norm.h"
#include "kernels/optimizer.h"
#include "kernels/rope.h"
#include "kernels/row/scalar.h"

namespace jevons {
namespace {

class Bench {
 public:
  Bench(std::int64_t rows, std::int64_t cols, int threads) : rows_(rows), cols_(cols) {
    ctx_.work = &work_;
    ctx_.listener = &meter_;
    ctx_.threads = threads;
  }

  void memory_copy() {
    const Tensor x = tensor({rows_, cols_}, DType::kF32), y = tensor({rows_, cols_}, DType::kF32);
    time("memcpy", x.numel(), [&] {
      std::memcpy(y.data, x.data, x.bytes());
      ctx_.record({.kind = WorkKind::kRow, .op = "memcpy", .bytes = 2 * static_cast<double>(x.bytes())});
    });
  }

  void all(DType dtype) {
    fmt::print("{}\n", name_of(dtype));
    elementwise(dtype);
    norm(dtype);
    activation(dtype);
    movement(dtype);
    loss(dtype);
    optimizer(dtype);
  }

 private:
  void elementwise(DType dtype) {
    const Tensor x = tensor({rows_, cols_}, dtype), y = tensor({rows_, cols_}, dtype);
    time("copy", x.numel(), [&] { copy(ctx_, x, y); });
    time("add", x.numel(), [&] { add(ctx_, x, y, y); });
    const Tensor sum = tensor({1}, DType::kF64);
    time("add_sum_of_squares", x.numel(), [&] { add_sum_of_squares(ctx_, x, sum); });
    time("count_nonfinite", x.numel(), [&] { count_nonfinite(ctx_, x); });
  }

  void norm(DType dtype) {
    const DType sums = accumulator_of(dtype);
    const Tensor x = tensor({rows_, cols_}, dtype), y = tensor({rows_, cols_}, dtype),
                 h = tensor({rows_, cols_}, dtype);
    const Tensor w = tensor({cols_}, sums), dw = tensor({cols_}, sums), rstd = tensor({rows_}, sums);
    time("rmsnorm_forward", x.numel(), [&] { rmsnorm_forward(ctx_, x, w, 1e-5f, y, rstd); });
    time("add_rmsnorm_forward", x.numel(), [&] { add_rmsnorm_forward(ctx_, x, y, w, 1e-5f, {h, y, rstd}); });
    time("rmsnorm_backward", x.numel(), [&] { rmsnorm_backward(ctx_, y, {x, w, rstd}, h, h, dw); });
    const std::int64_t dim = 64, heads = cols_ / dim;
    if (heads == 0) return;
    const Tensor head_w = tensor({dim}, sums), head_dw = tensor({dim}, sums),
                 head_rstd = tensor({rows_, heads}, sums);
    const HeadView in{x, 0, heads, dim}, out{y, 0, heads, dim};
    time("head_rmsnorm_forward", x.numel(),
         [&] { head_rmsnorm_forward(ctx_, in, head_w, 1e-5f, out, head_rstd); });
    time("head_rmsnorm_backward", x.numel(), [&] {
      head_rmsnorm_backward(ctx_, out, {in, head_w, head_rstd}, out, head_dw);
    });
    const Tensor cos = tensor({rows_, dim / 2}, sums), sin = tensor({rows_, dim / 2}, sums);
    const Tensor positions = integers({rows_}, rows_);
    time("rope_forward", x.numel(), [&] { rope_forward(ctx_, in, {positions, cos, sin}); });
  }

  void activation(DType dtype) {
    const DType sums = accumulator_of(dtype);
    const Tensor gate_up = tensor({rows_, 2 * cols_}, dtype), d_gate_up = tensor({rows_, 2 * cols_}, dtype);
    const Tensor h = tensor({rows_, cols_}, dtype), dh = tensor({rows_, cols_}, dtype);
    const Tensor scale = tensor({rows_}, sums), d_scale = tensor({rows_}, sums);
    time("swiglu_forward", h.numel(), [&] { swiglu_forward(ctx_, {gate_up, scale}, h); });
    time("swiglu_backward", h.numel(), [&] { swiglu_backward(ctx_, dh, {gate_up}, d_gate_up, {}); });
    time("swiglu_backward, row scale", h.numel(), [&] {
      swiglu_backward(ctx_, dh, {gate_up, scale}, d_gate_up, d_scale);
    });
  }

  void movement(DType dtype) {
    const Tensor x = tensor({rows_, cols_}, dtype), y = tensor({rows_, cols_}, dtype);
    const Tensor table = tensor({kVocab, cols_}, dtype),
                 d_table = tensor({kVocab, cols_}, accumulator_of(dtype));
    const Tensor tokens = integers({rows_}, kVocab), order = integers({rows_}, rows_),
                 two = integers({rows_, 2}, rows_);
    time("gather_rows", y.numel(), [&] { gather_rows(ctx_, x, order, y); });
    time("sum_rows, 2 slots", y.numel(), [&] { sum_rows(ctx_, x, two, y); });
    time("embedding_forward", y.numel(), [&] { embedding_forward(ctx_, tokens, table, 0, y); });
    time("embedding_backward", y.numel(), [&] { embedding_backward(ctx_, y, tokens, 0, d_table); });
  }

  void loss(DType dtype) {
    const DType sums = accumulator_of(dtype);
    const Tensor logits = tensor({rows_, cols_}, dtype), dlogits = tensor({rows_, cols_}, dtype);
    const Tensor targets = integers({rows_}, cols_), stats = tensor({rows_, 3}, sums);
    const Tensor nats = tensor({rows_}, sums), lse = tensor({rows_}, sums);
    time("cross_entropy_stats", logits.numel(), [&] {
      cross_entropy_stats(ctx_, logits, {targets, 0}, stats);
    });
    time("cross_entropy_combine", rows_, [&] {
      cross_entropy_combine(ctx_, stats.reshape({1, rows_, 3}), targets, nats, lse);
    });
    time("cross_entropy_backward", logits.numel(), [&] {
      cross_entropy_backward(ctx_, logits, {targets, 0}, lse, 1, dlogits);
    });
  }

  void optimizer(DType dtype) {
    const DType state = accumulator_of(dtype);
    const std::int64_t n = rows_ * cols_;
    const OptimizerRange r{tensor({n}, state), tensor({n}, state), tensor({n}, state), tensor({n}, state),
                           tensor({n}, dtype)};
    fill_zero(ctx_, r.moment2);
    time("adamw_step", n, [&] { adamw_step(ctx_, AdamW{.lr = 1e-3, .weight_decay = 0.1}, r); });
    time("sgd_step", n, [&] { sgd_step(ctx_, {.lr = 1e-3}, r); });
  }

  Tensor tensor(Shape shape, DType dtype) {
    const Tensor t = tensors_.alloc(shape, dtype);
    const RandomStream stream(1, "bench");
    const Tensor f32 = work_.alloc(shape, DType::kF32);
    for (std::int64_t i = 0; i < t.numel(); ++i) {
      f32.ptr<float>()[i] = static_cast<float>(stream.uniform(static_cast<std::uint64_t>(i)) * 4 - 2);
    }
    cast(ctx_, f32, t);
    work_.reset();
    return t;
  }

  Tensor integers(Shape shape, std::int64_t bound) {
    const Tensor t = tensors_.alloc(shape, DType::kI32);
    const RandomStream stream(1, "index");
    for (std::int64_t i = 0; i < t.numel(); ++i) {
      t.ptr<std::int32_t>()[i] = static_cast<std::int32_t>(
          stream.below(static_cast<std::uint64_t>(i), static_cast<std::uint64_t>(bound)));
    }
    return t;
  }

  // Prints the fastest of many calls: other programs on the machine only add time.
  void time(const char* name, std::int64_t elements, const std::function<void()>& op) {
    using Clock = std::chrono::steady_clock;
    op();
    meter_.reset();
    double best = 1e9, spent = 0;
    int calls = 0;
    while (spent < 0.15 || calls < 5) {
      const Clock::time_point start = Clock::now();
      op();
      const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
      best = std::min(best, seconds);
      spent += seconds;
      ++calls;
    }
    const double bytes = (meter_[WorkKind::kRow].bytes + meter_[WorkKind::kOptimizer].bytes) / calls;
    fmt::print("  {:<28}{:8.3f} ns/element {:8.1f} GB/s {:9.1f} us\n", name,
               best * 1e9 / static_cast<double>(elements), bytes / best * 1e-9, best * 1e6);
  }

  static constexpr std::int64_t kVocab = 1024;
  std::int64_t rows_, cols_;
  Arena work_{Device::kCpu, "work"}, tensors_{Device::kCpu, "tensors"};
  WorkMeter meter_;
  Context ctx_;
};

}  // namespace
}  // namespace jevons

int main(int argc, char** argv) {
  const auto argument = [&](int i, std::int64_t otherwise) {
    return i < argc ? std::atoll(argv[i]) : otherwise;
  };
  const std::int64_t rows = argument(1, 4096), cols = argument(2, 256);
  const auto threads = static_cast<int>(argument(3, 1));
  if (rows < 1 || cols < 1 || threads < 1) {
    fmt::print(stderr, "usage: bench_rows [rows] [cols] [threads], each at least 1\n");
    return 2;
  }
  fmt::print("{} rows of {}, {} thread(s); GB/s counts each byte read and written once\n", rows, cols,
             threads);
  for (const jevons::DType dtype : {jevons::DType::kF32, jevons::DType::kBF16}) {
    jevons::Bench bench(rows, cols, threads);
    if (dtype == jevons::DType::kF32) bench.memory_copy();
    bench.all(dtype);
  }
  return 0;
}
