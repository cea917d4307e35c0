// Rates of the three products of a linear layer over training shapes, dense and grouped by expert, beside the
// peak of the machine measured in the same run.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <deque>

#include "kernels/cpu/launch.h"
#include "kernels/gemm.h"
#include "tests/bench/measure.h"

#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

namespace jevons::bench {
namespace {

// GF/s of independent multiply-adds in registers on `threads` threads; 0 in a build without AVX-512.
double peak_gflops(DType dtype, int threads) {
#ifdef __AVX512BF16__
  constexpr std::int64_t kRounds = 4'000'000;
  constexpr int kChains = 16;
  const Stopwatch watch(threads);
  parallel_for(threads, threads, 1, [&](std::int64_t, std::int64_t) {
    __m512 sum[kChains];
    for (auto& s : sum) {
      s = _mm512_setzero_ps();
      asm volatile("" : "+v"(s));  // or equal chains become one
    }
    __m512 x = _mm512_set1_ps(1e-3f);
    for (std::int64_t round = 0; round < kRounds; ++round) {
      asm volatile("" : "+v"(x));
#pragma GCC unroll 16
      for (int i = 0; i < kChains; ++i) {
        sum[i] = dtype == DType::kF32
                     ? _mm512_fmadd_ps(x, x, sum[i])
                     : _mm512_dpbf16_ps(sum[i], reinterpret_cast<__m512bh>(x), reinterpret_cast<__m512bh>(x));
      }
    }
    for (auto& s : sum) asm volatile("" : "+v"(s));
  });
  const double flops = static_cast<double>(kRounds * kChains * threads) * 16 * (dtype == DType::kF32 ? 2 : 4);
  return flops / watch.seconds() * 1e-9;
#else
  (void)dtype, (void)threads;
  return 0;
#endif
}

class Shapes {
 public:
  Shapes(DType dtype, int threads) : dtype_(dtype) { ctx_.threads = threads; }

  // rows of all groups together; 1 group is the dense op.
  void report(std::int64_t rows, std::int64_t in, std::int64_t out, std::int64_t groups) {
    buffers_.clear();
    const DType sums = accumulator_of(dtype_);
    const Tensor x = tensor({rows, in}, dtype_), y = tensor({rows, out}, dtype_);
    const Tensor w = tensor({groups, out, in}, dtype_), dw = tensor({groups, out, in}, sums);
    std::vector<std::int64_t> offsets;
    for (std::int64_t g = 0; g <= groups; ++g) offsets.push_back(rows * g / groups);
    const double flops = 2.0 * static_cast<double>(rows) * static_cast<double>(in * out);
    const bool dense = groups == 1;
    const Tensor w1 = dense ? w.reshape({out, in}) : w, dw1 = dense ? dw.reshape({out, in}) : dw;
    const double forward = rate(flops, [&] {
      dense ? linear_forward(ctx_, x, w1, y) : grouped_linear_forward(ctx_, offsets, x, w1, y);
    });
    const double input = rate(flops, [&] {
      dense ? linear_backward_input(ctx_, y, w1, x) : grouped_linear_backward_input(ctx_, offsets, y, w1, x);
    });
    const double weight = rate(flops, [&] {
      dense ? linear_backward_weight(ctx_, y, x, dw1)
            : grouped_linear_backward_weight(ctx_, offsets, y, x, dw1);
    });
    std::printf("%6ld %5ld %5ld %6ld  %8.1f %8.1f %8.1f\n", static_cast<long>(rows), static_cast<long>(in),
                static_cast<long>(out), static_cast<long>(groups), forward, input, weight);
  }

 private:
  Tensor tensor(Shape shape, DType dtype) {
    buffers_.emplace_back(Device::kCpu, static_cast<std::size_t>(shape.numel()) * size_of(dtype));
    return buffers_.back().view(0, shape, dtype);
  }
  // GF/s: each sample repeats the op for about 20 ms.
  template <class Op>
  double rate(double flops, Op op) {
    op();
    Stopwatch watch(ctx_.threads);
    op();
    const int repeats = std::max(1, static_cast<int>(0.02 / watch.seconds()));
    std::vector<double> seconds;
    sample(
        5,
        [&] {
          watch.restart();
          for (int i = 0; i < repeats; ++i) op();
          return watch.seconds() / repeats;
        },
        [&](double s) { seconds.push_back(s); });
    return flops / median(seconds) * 1e-9;
  }

  DType dtype_;
  Context ctx_;
  std::deque<Buffer> buffers_;
};

void run(DType dtype, int threads) {
  std::printf("%s, %d threads, %s, peak %.0f GF/s\n", std::string(name_of(dtype)).c_str(), threads,
              gemm_backend(dtype).name, peak_gflops(dtype, threads));
  std::printf("  rows    in   out groups   forward  d_input d_weight  GF/s\n");
  Shapes shapes(dtype, threads);
  for (const std::int64_t rows : {64, 256, 1024, 4096}) {
    for (const auto& [in, out] : {std::pair<std::int64_t, std::int64_t>{128, 256},
                                  {256, 768},
                                  {512, 512},
                                  {512, 1408},
                                  {1408, 512}}) {
      shapes.report(rows, in, out, 1);
    }
  }
  for (const std::int64_t groups : {8, 16, 32, 64, 256}) shapes.report(4096, 256, 512, groups);
}

}  // namespace
}  // namespace jevons::bench

int main(int argc, char** argv) {
  int threads = 1;
  CLI::App app("Rates of matrix products");
  app.add_option("--threads", threads)->check(CLI::PositiveNumber)->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  for (const jevons::DType dtype : {jevons::DType::kF32, jevons::DType::kBF16})
    jevons::bench::run(dtype, threads);
  return 0;
}
