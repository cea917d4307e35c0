// Attention on the GPU against the same call on the CPU. The emulated cuDNN evaluates the graphs that the
// product builds, operation by operation, so this holds their operands, strides and masks.
#include "kernels/attention.h"

#include <cmath>

#include "kernels/core/error.h"
#include "tests/cuda/gpu_bench.h"

namespace jevons::test {
namespace {

struct Case {
  std::int64_t batch, seq, heads, kv_heads, dim, v_dim;
  bool documents = false;
};

// One side of a comparison: q, k and v in one fused matrix with 8 columns of nobody between q and k, as their
// gradients.
struct Side {
  Tensor qkv, o, lse, d_o, d_qkv, doc_start;

  AttentionGrads views(const Case& c, Tensor base) const {
    const std::int64_t k_col = c.heads * c.dim + 8, v_col = k_col + c.kv_heads * c.dim;
    return {{base, 0, c.heads, c.dim}, {base, k_col, c.kv_heads, c.dim}, {base, v_col, c.kv_heads, c.v_dim}};
  }
  void run(const Context& ctx, const Case& c) const {
    const AttentionShape shape{c.batch, c.seq, static_cast<float>(1 / std::sqrt(static_cast<double>(c.dim)))};
    const AttentionGrads in = views(c, qkv);
    const AttentionSaved saved{in.dq, in.dk, in.dv, {o, 0, c.heads, c.v_dim}, doc_start, lse};
    attention_forward(ctx, shape, saved.q, saved.k, saved.v, doc_start, saved.o, lse);
    attention_backward(ctx, shape, saved, {d_o, 0, c.heads, c.v_dim}, views(c, d_qkv));
  }
};

void check_case(const Case& c) {
  CAPTURE(c.batch, c.seq, c.heads, c.kv_heads, c.dim, c.v_dim, c.documents);
  KernelBench cpu;
  GpuBench gpu;
  const std::int64_t rows = c.batch * c.seq, out = c.heads * c.v_dim;
  const std::int64_t columns = (c.heads + c.kv_heads) * c.dim + 8 + c.kv_heads * c.v_dim;
  Side host{cpu.random({rows, columns}, DType::kBF16),
            cpu.poisoned({rows, out}, DType::kBF16),
            cpu.poisoned({rows, c.heads}, DType::kF32),
            cpu.random({rows, out}, DType::kBF16),
            cpu.filled({rows, columns}, DType::kBF16, [](std::int64_t) { return 7; }),
            {}};
  Side device{gpu.upload(host.qkv),
              gpu.undefined({rows, out}, DType::kBF16),
              gpu.undefined({rows, c.heads}, DType::kF32),
              gpu.upload(host.d_o),
              gpu.upload(host.d_qkv),
              {}};
  if (c.documents) {
    host.doc_start = cpu.filled({rows}, DType::kI32, [&](std::int64_t row) {
      const std::int64_t t = row % c.seq;
      return t >= 20 ? 20 : t >= 3 ? 3 : t >= 1 ? 1 : 0;
    });
    device.doc_start = gpu.upload(host.doc_start);
  }
  host.run(cpu.ctx, c);
  device.run(gpu.ctx, c);
  CHECK(max_error(gpu.download(device.o), to_doubles(host.o)) < 0.025);
  CHECK(max_error(gpu.download(device.lse), to_doubles(host.lse)) < 1e-5);
  CHECK(max_error(gpu.download(device.d_qkv), to_doubles(host.d_qkv)) <
        0.05);  // columns of nobody keep their 7
}

}  // namespace

TEST_CASE("attention on the GPU matches the CPU", "[attention]") {
  check_case({1, 1, 1, 1, 8, 8});
  check_case({2, 13, 2, 2, 8, 8});
  check_case({1, 33, 4, 2, 16, 8});  // grouped queries, another width of values
  check_case({2, 24, 4, 1, 8, 16});
  check_case({1, 40, 2, 1, 64, 64});
}

// More than the scratch memory of one call holds: 4096 sequences and then 4, 32768 heads and then 232.
TEST_CASE("attention on the GPU in pieces matches the CPU", "[attention]") {
  check_case({4100, 3, 8, 4, 8, 8});
  check_case({1, 2, 33000, 33000, 8, 8});
}

TEST_CASE("attention on the GPU keeps documents apart", "[attention]") {
  check_case({1, 1, 1, 1, 8, 8, true});
  check_case({2, 37, 4, 2, 16, 16, true});
}

TEST_CASE("attention on the GPU gives the same bits again", "[attention]") {
  const Case c{2, 200, 4, 2, 64, 64};
  GpuBench gpu;
  KernelBench cpu;
  const std::int64_t rows = c.batch * c.seq,
                     columns = (c.heads + c.kv_heads) * c.dim + 8 + c.kv_heads * c.v_dim;
  Side side{gpu.upload(cpu.random({rows, columns}, DType::kBF16)),
            gpu.undefined({rows, c.heads * c.v_dim}, DType::kBF16),
            gpu.undefined({rows, c.heads}, DType::kF32),
            gpu.upload(cpu.random({rows, c.heads * c.v_dim}, DType::kBF16)),
            gpu.zeros({rows, columns}, DType::kBF16),
            {}};
  side.run(gpu.ctx, c);
  const Tensor first = gpu.download(side.d_qkv);
  for (int again = 0; again < 5; ++again) {
    side.run(gpu.ctx, c);
    CHECK(same_bits(gpu.download(side.d_qkv), first));
  }
}

TEST_CASE("attention on the GPU refuses what cuDNN cannot take", "[attention]") {
  GpuBench gpu;
  const auto run = [&](DType dtype, std::int64_t dim) {
    const Tensor x = gpu.zeros({4, dim}, dtype), lse = gpu.zeros({4, 1}, DType::kF32);
    const HeadView view{x, 0, 1, dim};
    attention_forward(gpu.ctx, {1, 4, 1}, view, view, view, {}, view, lse);
  };
  CHECK_THROWS_AS(run(DType::kF32, 8), Error);
  CHECK_THROWS_AS(run(DType::kBF16, 12), Error);
}

}  // namespace jevons::test
