// Matrix products on the GPU against the same call on the CPU. The emulated library adds in another order and
// rounds results once, as cuBLASLt does.
#include "kernels/gemm.h"

#include <cmath>

#include "kernels/core/error.h"
#include "tests/cuda/gpu_bench.h"

namespace jevons::test {
namespace {

constexpr DType kTypes[] = {DType::kF32, DType::kBF16, DType::kF64};

// Largest error of a sum of k products of normal numbers, relative to max(1, |exact|).
double bound(DType result, std::int64_t k) {
  const double sum = result == DType::kF64 ? 1e-14 : 1e-6 * std::sqrt(static_cast<double>(k) + 1);
  return result == DType::kBF16 ? 1.0 / 128 + sum : sum;
}

// Same operands on both sides; what the CPU writes is poisoned, what the GPU writes undefined, and what is
// added to the same numbers.
struct Pair {
  KernelBench cpu;
  GpuBench gpu;

  struct Both {
    Tensor host, device;
  };
  Both input(Shape shape, DType dtype) {
    const Tensor host = cpu.random(shape, dtype);
    return {host, gpu.upload(host)};
  }
  Both output(Shape shape, DType dtype) { return {cpu.poisoned(shape, dtype), gpu.undefined(shape, dtype)}; }
  void expect_close(const Both& result, std::int64_t k) {
    const Tensor got = gpu.download(result.device);
    CHECK(max_error(got, to_doubles(result.host)) <= bound(got.dtype, k));
  }
};

void check_dense(DType dtype, std::int64_t rows, std::int64_t in, std::int64_t out) {
  CAPTURE(name_of(dtype), rows, in, out);
  Pair p;
  const auto x = p.input({rows, in}, dtype), w = p.input({out, in}, dtype), dy = p.input({rows, out}, dtype);
  const auto y = p.output({rows, out}, dtype), dx = p.output({rows, in}, dtype);
  const auto dw = p.input({out, in}, accumulator_of(dtype));
  linear_forward(p.cpu.ctx, x.host, w.host, y.host);
  linear_forward(p.gpu.ctx, x.device, w.device, y.device);
  p.expect_close(y, in);
  linear_backward_input(p.cpu.ctx, dy.host, w.host, dx.host);
  linear_backward_input(p.gpu.ctx, dy.device, w.device, dx.device);
  p.expect_close(dx, out);
  linear_backward_weight(p.cpu.ctx, dy.host, x.host, dw.host);
  linear_backward_weight(p.gpu.ctx, dy.device, x.device, dw.device);
  p.expect_close(dw, rows);
  CHECK(p.gpu.meter[WorkKind::kGemm].flops == p.cpu.meter[WorkKind::kGemm].flops);
}

void check_grouped(DType dtype, const std::vector<std::int64_t>& offsets, std::int64_t in, std::int64_t out) {
  CAPTURE(name_of(dtype), offsets, in, out);
  const std::int64_t rows = offsets.back(), groups = static_cast<std::int64_t>(offsets.size()) - 1;
  Pair p;
  const auto x = p.input({rows, in}, dtype), w = p.input({groups, out, in}, dtype);
  const auto dy = p.input({rows, out}, dtype);
  const auto y = p.output({rows, out}, dtype), dx = p.output({rows, in}, dtype);
  const auto dw = p.input({groups, out, in}, accumulator_of(dtype));
  grouped_linear_forward(p.cpu.ctx, offsets, x.host, w.host, y.host);
  grouped_linear_forward(p.gpu.ctx, offsets, x.device, w.device, y.device);
  p.expect_close(y, in);
  grouped_linear_backward_input(p.cpu.ctx, offsets, dy.host, w.host, dx.host);
  grouped_linear_backward_input(p.gpu.ctx, offsets, dy.device, w.device, dx.device);
  p.expect_close(dx, out);
  grouped_linear_backward_weight(p.cpu.ctx, offsets, dy.host, x.host, dw.host);
  grouped_linear_backward_weight(p.gpu.ctx, offsets, dy.device, x.device, dw.device);
  p.expect_close(dw, rows);
}

}  // namespace

TEST_CASE("linear products on the GPU match the CPU", "[gemm]") {
  for (const DType dtype : kTypes) {
    check_dense(dtype, 1, 1, 1);
    check_dense(dtype, 7, 13, 5);
    check_dense(dtype, 64, 32, 48);
    check_dense(dtype, 33, 100, 17);
  }
}

TEST_CASE("linear products on the GPU without rows, inputs or outputs", "[gemm]") {
  for (const DType dtype : kTypes) {
    check_dense(dtype, 0, 8, 8);
    check_dense(dtype, 5, 0, 3);  // a product over nothing is zero
    check_dense(dtype, 5, 3, 0);
  }
}

TEST_CASE("grouped products on the GPU match the CPU", "[gemm]") {
  for (const DType dtype : kTypes) {
    check_grouped(dtype, {0, 0, 7, 7, 8, 40, 40}, 24, 16);  // empty groups first, between and last
    check_grouped(dtype, {0, 3, 20, 21}, 5, 7);             // rows that begin at odd addresses
    check_grouped(dtype, {0, 0, 0}, 8, 8);
    check_grouped(dtype, {0, 33}, 8, 8);
    std::vector<std::int64_t> many{0};  // more addresses than one kernel writes
    for (std::int64_t group = 0; group < 150; ++group) many.push_back(many.back() + group % 3);
    check_grouped(dtype, many, 8, 16);
  }
}

// Sizes of groups are rounded up to choose an algorithm, which may not take the sizes themselves.
TEST_CASE("grouped products fall back to an algorithm for their own sizes", "[gemm]") {
  const EmulationScope scope(emulation::Settings{.exact_algorithms = true});
  for (const DType dtype : kTypes) {
    check_grouped(dtype, {0, 5, 12, 12, 28, 41}, 24, 40);
    check_grouped(dtype, {0, 5, 12, 12, 28, 41}, 24, 40);
    check_dense(dtype, 11, 24, 40);
  }
}

TEST_CASE("a product on the GPU keeps its sums in f32 or refuses two dtypes and scales", "[gemm]") {
  Pair p;
  const auto x = p.input({33, 40}, DType::kBF16), w = p.input({24, 40}, DType::kBF16);
  const auto y = p.output({33, 24}, DType::kF32), scale = p.input({1}, DType::kF32);
  linear_forward(p.cpu.ctx, x.host, w.host, y.host);
  linear_forward(p.gpu.ctx, x.device, w.device, y.device);
  p.expect_close(y, 40);
  const auto wide = p.input({24, 40}, DType::kF32);
  CHECK_THROWS_AS(linear_forward(p.gpu.ctx, x.device, wide.device, y.device), Error);
  CHECK_THROWS_AS(linear_forward(p.gpu.ctx, x.device, Factor(w.device, scale.device), y.device), Error);
}

TEST_CASE("the dry run counts at least what products on a GPU take of the work arena", "[gemm]") {
  const bool grouped = GENERATE(false, true);
  const std::vector<std::int64_t> offsets{0, 5, 12, 40};
  const auto peak_of = [&](const Context& ctx, const Tensor& x, const Tensor& w, const Tensor& y) {
    grouped ? grouped_linear_forward(ctx, offsets, x, w, y) : linear_forward(ctx, x, w, y);
    CHECK(ctx.work->used_bytes() == 0);
    return ctx.work->peak_bytes();
  };
  const Shape rows{40, 16}, weight = grouped ? Shape{3, 16, 16} : Shape{16, 16};
  GpuBench gpu;
  const std::size_t real = peak_of(gpu.ctx, gpu.zeros(rows, DType::kBF16), gpu.zeros(weight, DType::kBF16),
                                   gpu.zeros(rows, DType::kBF16));
  Arena counted(Device::kMeta, "work");
  const Context dry{.device = Device::kMeta, .modelled = Device::kCuda, .work = &counted};
  const auto meta = [](Shape shape) { return Tensor{nullptr, shape, DType::kBF16, Device::kMeta}; };
  const std::size_t dry_peak = peak_of(dry, meta(rows), meta(weight), meta(rows));
  CHECK(real > 0);
  CHECK(dry_peak >= real);
  CHECK(dry_peak == static_cast<std::size_t>(grouped ? 4 : 1) << 25);
}

// Products of one stream share scratch memory; two streams that do are a race.
TEST_CASE("products of one shape on one stream do not disturb each other", "[gemm]") {
  Pair p;
  const auto x = p.input({16, 16}, DType::kF32), w = p.input({16, 16}, DType::kF32);
  const auto first = p.output({16, 16}, DType::kF32), second = p.output({16, 16}, DType::kF32);
  linear_forward(p.cpu.ctx, x.host, w.host, first.host);
  linear_forward(p.cpu.ctx, first.host, w.host, second.host);
  linear_forward(p.gpu.ctx, x.device, w.device, first.device);
  linear_forward(p.gpu.ctx, first.device, w.device, second.device);
  p.expect_close(first, 16);
  p.expect_close(second, 64);
}

TEST_CASE("a product on the GPU without a work arena is refused", "[gemm]") {
  Pair p;
  const auto x = p.input({2, 2}, DType::kF32), w = p.input({2, 2}, DType::kF32);
  p.gpu.ctx.work = nullptr;
  CHECK_THROWS_AS(linear_forward(p.gpu.ctx, x.device, w.device, p.gpu.undefined({2, 2}, DType::kF32)), Error);
}

}  // namespace jevons::test
