// Rates of the ops on a GPU, as Markdown: row kernels beside a copy within the device, matrix products and
// attention beside the device's peak, or the exchange between GPUs (gpu_exchange.h). Sizes are those of an
// OLMoE layer (D 2048, 64 experts of 1024, top-8, 16 heads of 128, V 50304) over --rows tokens.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <string>
#include <vector>

#include "kernels/activation.h"
#include "kernels/attention.h"
#include "kernels/attention_scratch.h"
#include "kernels/core/device.h"
#include "kernels/core/error.h"
#include "kernels/cross_entropy.h"
#include "kernels/cuda/attention_products.h"
#include "kernels/elementwise.h"
#include "kernels/embedding.h"
#include "kernels/gemm.h"
#include "kernels/moe/balance.h"
#include "kernels/moe/permute.h"
#include "kernels/moe/routing.h"
#include "kernels/moe/slot_order.h"
#include "kernels/norm.h"
#include "kernels/optimizer.h"
#include "kernels/rope.h"
#include "tests/bench/gpu_bed.h"
#include "tests/bench/gpu_exchange.h"
#include "trainer/cost/device_peaks.h"

namespace jevons {
namespace {

struct Options {
  std::int64_t rows = 16384, seq = 4096, hidden = 2048, ffn = 1024, experts = 64, top_k = 8, heads = 16,
               vocab = 50304;
  double peak_tflops = 0;  // dense bf16; 0: no share is printed
  double seconds = 0.1;    // per case
  std::vector<std::string> parts = {"rows", "products", "attention"};
  std::int64_t copy_bytes = std::int64_t{1} << 30, peer_bytes = 64 << 20;
};

class Bench : GpuBed {
 public:
  explicit Bench(const Options& options) : o_(options) {}

  void rows();
  void products();
  void attention();

 private:
  // Seconds of one call, after a warm-up: calls are enqueued until --seconds have passed by the clock of the
  // host, which waits for the device at both ends.
  template <class Op>
  double seconds_of(Op op) {
    for (int i = 0; i < 3; ++i) op();
    stream_.synchronise();
    using Clock = std::chrono::steady_clock;
    const auto begin = Clock::now();
    const auto passed = [&] { return std::chrono::duration<double>(Clock::now() - begin).count(); };
    int calls = 0;
    for (int batch = 1; passed() < o_.seconds; batch *= 2) {
      for (int i = 0; i < batch; ++i) op();
      calls += batch;
      stream_.synchronise();
    }
    return passed() / calls;
  }

  template <class Op>
  void row_case(const char* name, Op op) {
    meter_.reset();
    op();
    double bytes = 0;
    for (const WorkKind kind : {WorkKind::kRow, WorkKind::kOptimizer}) bytes += meter_[kind].bytes;
    const double seconds = seconds_of(op), rate = bytes / seconds * 1e-9;
    fmt::print("| {} | {:.1f} | {:.1f} | {:.0f} | {:.0f} % |\n", name, bytes * 1e-6, seconds * 1e6, rate,
               100 * rate / copy_rate_);
    std::fflush(stdout);
  }

  // Of what the op records; returns its FLOPs.
  template <class Op>
  double flop_case(const std::string& name, Op op) {
    meter_.reset();
    op();
    const double flops = meter_.total_flops();
    flop_case(name, flops, op);
    return flops;
  }
  template <class Op>
  void flop_case(const std::string& name, double flops, Op op) {
    const double seconds = seconds_of(op), rate = flops / seconds * 1e-12;
    const std::string share =
        o_.peak_tflops > 0 ? fmt::format("{:.0f} %", 100 * rate / o_.peak_tflops) : std::string("-");
    fmt::print("| {} | {:.1f} | {:.1f} | {:.1f} | {} |\n", name, flops * 1e-9, seconds * 1e6, rate, share);
    std::fflush(stdout);
  }

  void copy_within_device();
  void norms();
  void movement();
  void loss();
  void router();
  void slots(const Tensor& indices, std::int64_t ranks);
  void optimizer();
  void grouped(const char* name, const std::vector<std::int64_t>& offsets);
  void attention_of(std::int64_t kv_heads, std::int64_t dim, std::int64_t v_dim);

  Options o_;
  double copy_rate_ = 1;  // GB/s
};

void Bench::copy_within_device() {
  const std::int64_t bytes = o_.copy_bytes;
  const Tensor from = undefined({bytes}, DType::kU8), to = undefined({bytes}, DType::kU8);
  zero_async(&stream_, from);
  const double seconds = seconds_of([&] { copy_async(&stream_, to, from); });
  copy_rate_ = 2 * static_cast<double>(bytes) / seconds * 1e-9;
  fmt::print("| cudaMemcpyAsync within the device | {:.1f} | {:.1f} | {:.0f} | 100 % |\n",
             2e-6 * static_cast<double>(bytes), seconds * 1e6, copy_rate_);
  forget();
}

void Bench::norms() {
  const std::int64_t t = o_.rows, d = o_.hidden, head = d / o_.heads;
  const Tensor x = random({t, d}, DType::kBF16), r = random({t, d}, DType::kBF16),
               y = undefined({t, d}, DType::kBF16);
  const Tensor w = random({d}, DType::kF32), dw = random({d}, DType::kF32),
               rstd = undefined({t}, DType::kF32);
  row_case("rmsnorm_forward", [&] { rmsnorm_forward(ctx_, x, w, 1e-5f, y, rstd); });
  row_case("add_rmsnorm_forward", [&] { add_rmsnorm_forward(ctx_, x, r, w, 1e-5f, {r, y, rstd}); });
  row_case("rmsnorm_backward", [&] { rmsnorm_backward(ctx_, y, {x, w, rstd}, r, r, dw); });
  const Tensor heads_rstd = undefined({t, o_.heads}, DType::kF32), head_w = random({head}, DType::kF32),
               head_dw = random({head}, DType::kF32);
  const HeadView hx{x, 0, o_.heads, head}, hy{y, 0, o_.heads, head};
  row_case("head_rmsnorm_forward", [&] { head_rmsnorm_forward(ctx_, hx, head_w, 1e-5f, hy, heads_rstd); });
  row_case("head_rmsnorm_backward", [&] {
    head_rmsnorm_backward(ctx_, hy, {hx, head_w, heads_rstd}, hy, head_dw);
  });
  const Tensor cos = random({o_.seq, head / 2}, DType::kF32), sin = random({o_.seq, head / 2}, DType::kF32);
  const Tensor positions = integers({t}, [&](std::int64_t i) { return i % o_.seq; });
  row_case("rope_forward", [&] { rope_forward(ctx_, hy, {positions, cos, sin}); });
  row_case("add", [&] { add(ctx_, x, r, y); });
  const Tensor sum = undefined({1}, DType::kF64);
  row_case("add_sum_of_squares", [&] { add_sum_of_squares(ctx_, x, sum); });
  forget();
}

void Bench::movement() {
  const std::int64_t t = o_.rows, d = o_.hidden, k = o_.top_k, slots = t * k;
  const Tensor x = random({t, d}, DType::kBF16), rows = random({slots, d}, DType::kBF16);
  const Tensor to = integers({slots}, [&](std::int64_t i) { return (i * 7919) % slots / k; });
  const Tensor home = integers({t, k}, [&](std::int64_t i) { return (i * 7919) % slots; });
  row_case("gather_rows", [&] { gather_rows(ctx_, x, to, rows); });
  row_case("sum_rows", [&] { sum_rows(ctx_, rows, home, x); });
  const Tensor gate_up = random({slots, 2 * o_.ffn}, DType::kBF16), h = random({slots, o_.ffn}, DType::kBF16);
  const Tensor scale = random({slots}, DType::kF32), d_scale = undefined({slots}, DType::kF32);
  row_case("swiglu_forward", [&] { swiglu_forward(ctx_, {gate_up, scale}, h); });
  row_case("swiglu_backward", [&] { swiglu_backward(ctx_, h, {gate_up, scale}, gate_up, d_scale); });
  forget();
}

void Bench::loss() {
  const std::int64_t t = std::min<std::int64_t>(o_.rows, 8192), v = o_.vocab, d = o_.hidden;
  const Tensor logits = random({t, v}, DType::kBF16), stats = undefined({1, t, 3}, DType::kF32);
  const Tensor targets = integers({t}, [&](std::int64_t i) { return (i * 7919) % v; });
  const Tensor loss = undefined({t}, DType::kF32), lse = undefined({t}, DType::kF32);
  row_case("cross_entropy_stats", [&] {
    cross_entropy_stats(ctx_, logits, {targets, 0}, stats.reshape({t, 3}));
  });
  row_case("cross_entropy_combine", [&] { cross_entropy_combine(ctx_, stats, targets, loss, lse); });
  row_case("cross_entropy_backward", [&] {
    cross_entropy_backward(ctx_, logits, {targets, 0}, lse, 1e-4, logits);
  });
  const Tensor table = random({v, d}, DType::kBF16), y = undefined({t, d}, DType::kBF16),
               dt = random({v, d}, DType::kF32);
  row_case("embedding_forward", [&] { embedding_forward(ctx_, targets, table, 0, y); });
  row_case("embedding_backward", [&] { embedding_backward(ctx_, y, targets, 0, dt); });
  forget();
}

void Bench::router() {
  const std::int64_t t = o_.rows, e = o_.experts, k = o_.top_k;
  const RouterRule rule{.num_experts = e, .top_k = k};
  const Tensor logits = random({t, e}, DType::kF32), scores = undefined({t, e}, DType::kF32);
  const RouterOutput out{scores, undefined({t, k}, DType::kI32), undefined({t, k}, DType::kF32)};
  const Segments segments{.first_row = 0, .segment_len = o_.seq, .count = t / o_.seq};
  const Tensor counts = undefined({segments.count, e}, DType::kI64),
               sums = undefined({segments.count, e}, DType::kF32);
  const Tensor d_logits = undefined({t, e}, DType::kF32);
  row_case("router_forward", [&] { router_forward(ctx_, rule, logits, {}, out); });
  row_case("router_backward", [&] {
    router_backward(ctx_, rule, logits, out, {out.weights, scores, d_logits});
  });
  row_case("routing_counts", [&] { routing_counts(ctx_, out.indices, segments, counts); });
  row_case("score_sums", [&] { score_sums(ctx_, scores, segments, sums); });
  slots(out.indices, 1);
  if (e % 8 == 0) slots(out.indices, 8);
  forget();
}

// The plan of a dispatch over `ranks`; what comes in is taken to be what the last of them sends to all.
void Bench::slots(const Tensor& indices, std::int64_t ranks) {
  const std::int64_t t = indices.rows(), k = indices.cols(), e = o_.experts / ranks;
  const SlotLists out{.counts = undefined({ranks, e + 1}, DType::kI64),
                      .out_of_range = undefined({1}, DType::kI64),
                      .dropped = {},
                      .send_index = undefined({t * std::min(k, ranks)}, DType::kI32),
                      .slot_flat = undefined({t * k}, DType::kI32),
                      .slot_row = undefined({t, k}, DType::kI32),
                      .token_row = {},
                      .notes = undefined({t * k, 2}, DType::kI32)};
  row_case(fmt::format("sort_slots, {} ranks", ranks).c_str(),
           [&] { sort_slots(ctx_, {.experts = o_.experts, .ranks = ranks}, indices, out); });
  const RowLists rows{.expand = undefined({t * k}, DType::kI32),
                      .wire_to_row = undefined({t * k}, DType::kI32),
                      .row_to_wire = undefined({t * k}, DType::kI32),
                      .reduce_index = {},
                      .contradiction = undefined({4}, DType::kI64)};
  row_case(fmt::format("order_rows, {} ranks", ranks).c_str(),
           [&] { order_rows(ctx_, {}, out.counts, out.notes, k, rows); });
}

void Bench::optimizer() {
  const std::int64_t n = std::max<std::int64_t>(o_.rows * o_.hidden, 1 << 16);
  const OptimizerRange range{.master = random({n}, DType::kF32),
                             .moment1 = random({n}, DType::kF32),
                             .moment2 = undefined({n}, DType::kF32),
                             .grad = random({n}, DType::kF32),
                             .weight = undefined({n}, DType::kBF16)};
  fill_zero(ctx_, range.moment2);
  row_case("adamw_step", [&] { adamw_step(ctx_, {.lr = 1e-4}, range); });
  row_case("cast f32 to bf16", [&] { cast(ctx_, range.master, range.weight); });
  row_case("fill_zero", [&] { fill_zero(ctx_, range.grad); });
  forget();
}

void Bench::rows() {
  fmt::print(
      "\n## Row kernels\n\n{} rows of {}, bf16. Bytes: each tensor once for a pass.\n\n"
      "| op | MB | us | GB/s | of the copy |\n|---|---|---|---|---|\n",
      o_.rows, o_.hidden);
  copy_within_device();
  norms();
  movement();
  loss();
  router();
  optimizer();
}

void Bench::grouped(const char* name, const std::vector<std::int64_t>& offsets) {
  const std::int64_t rows = offsets.back(), e = o_.experts, d = o_.hidden, f = 2 * o_.ffn;
  const Tensor x = random({rows, d}, DType::kBF16), y = random({rows, f}, DType::kBF16);
  const Tensor w = random({e, f, d}, DType::kBF16), dw = random({e, f, d}, DType::kF32);
  flop_case(fmt::format("{}, forward", name), [&] { grouped_linear_forward(ctx_, offsets, x, w, y); });
  flop_case(fmt::format("{}, dx", name), [&] { grouped_linear_backward_input(ctx_, offsets, y, w, x); });
  flop_case(fmt::format("{}, dw", name), [&] { grouped_linear_backward_weight(ctx_, offsets, y, x, dw); });
  forget();
}

void Bench::products() {
  fmt::print(
      "\n## Matrix products\n\nbf16, random operands, sums in fp32; dw is fp32 and added to.\n\n"
      "| product | GFLOP | us | TFLOP/s | of the peak |\n|---|---|---|---|---|\n");
  const std::int64_t t = o_.rows, d = o_.hidden;
  for (const std::int64_t out : {d, 3 * d, o_.vocab}) {
    const std::int64_t rows = out == o_.vocab ? std::min<std::int64_t>(t, 8192) : t;
    const Tensor x = random({rows, d}, DType::kBF16), w = random({out, d}, DType::kBF16),
                 y = random({rows, out}, DType::kBF16);
    const Tensor dw = random({out, d}, DType::kF32);
    const std::string name = fmt::format("({}, {}) by ({}, {})", rows, d, out, d);
    flop_case(name + ", forward", [&] { linear_forward(ctx_, x, w, y); });
    flop_case(name + ", dx", [&] { linear_backward_input(ctx_, y, w, x); });
    flop_case(name + ", dw", [&] { linear_backward_weight(ctx_, y, x, dw); });
    forget();
  }
  std::vector<std::int64_t> even{0}, skewed{0};
  const std::int64_t slots = t * o_.top_k, e = o_.experts;
  for (std::int64_t i = 1; i <= e; ++i) {
    even.push_back(slots * i / e);
    const double share = static_cast<double>(i) / static_cast<double>(e);
    skewed.push_back(static_cast<std::int64_t>(std::pow(share, 3) * static_cast<double>(slots)));
  }
  skewed.back() = slots;
  grouped(fmt::format("{} experts, {} rows each", e, slots / e).c_str(), even);
  grouped(fmt::format("{} experts, 0 to {} rows", e,
                      skewed[static_cast<std::size_t>(e)] - skewed[static_cast<std::size_t>(e - 1)])
              .c_str(),
          skewed);
}

// The way that the library leaves, and matrix products by themselves.
void Bench::attention_of(std::int64_t kv_heads, std::int64_t dim, std::int64_t v_dim) {
  const std::int64_t t = o_.rows, q_columns = o_.heads * dim, k_columns = kv_heads * dim,
                     columns = q_columns + k_columns + kv_heads * v_dim, out = o_.heads * v_dim;
  const auto shape = AttentionShape::of_sequences(
      t / o_.seq, o_.seq, static_cast<float>(1 / std::sqrt(static_cast<double>(dim))));
  const Tensor qkv = random({t, columns}, DType::kBF16), d_qkv = undefined({t, columns}, DType::kBF16);
  const Tensor o = undefined({t, out}, DType::kBF16), d_o = random({t, out}, DType::kBF16);
  const Tensor lse = undefined({t, o_.heads}, DType::kF32);
  const auto views = [&](const Tensor& base) {
    return AttentionGrads{{base, 0, o_.heads, dim},
                          {base, q_columns, kv_heads, dim},
                          {base, q_columns + k_columns, kv_heads, v_dim}};
  };
  const AttentionGrads in = views(qkv), grads = views(d_qkv);
  const HeadView d_out{d_o, 0, o_.heads, v_dim};
  const AttentionSaved saved{in.dq, in.dk, in.dv, {o, 0, o_.heads, v_dim}, {}, lse};
  const SquareBlock at_once = square_block(attention_sizes(shape, saved), kMostSquareBytes);
  const std::string name = fmt::format("{} key heads of {} and {}", kv_heads, dim, v_dim);
  const double forward = flop_case(name + ", forward", [&] { attention_forward(ctx_, shape, saved); });
  flop_case(name + ", forward by products", forward,
            [&] { cuda::attention_forward_by_products(ctx_, shape, saved, at_once); });
  const double backward =
      flop_case(name + ", backward", [&] { attention_backward(ctx_, shape, saved, d_out, grads); });
  flop_case(name + ", backward by products", backward,
            [&] { cuda::attention_backward_by_products(ctx_, shape, saved, d_out, grads, at_once); });
  forget();
}

void Bench::attention() {
  fmt::print(
      "\n## Attention\n\nCausal, {} positions, {} heads; FLOPs of the causal half.\n\n"
      "| case | GFLOP | us | TFLOP/s | of the peak |\n|---|---|---|---|---|\n",
      o_.seq, o_.heads);
  const std::int64_t head = o_.hidden / o_.heads;
  attention_of(o_.heads, head, head);
  attention_of(std::max<std::int64_t>(o_.heads / 4, 1), head, head);
  attention_of(o_.heads, 192, 128);  // DeepSeek-V3's
  fmt::print("\n");
  for (const std::string& way : attention_engines()) fmt::print("- {}\n", way);
}

int run(int argc, char** argv) {
  Options o;
  CLI::App app("Rates of Jevons' ops on a GPU.", "bench_gpu");
  app.add_option("--rows", o.rows, "Tokens; a multiple of --seq")->capture_default_str();
  app.add_option("--seq", o.seq, "Positions of a sequence")->capture_default_str();
  app.add_option("--hidden", o.hidden)->capture_default_str();
  app.add_option("--ffn", o.ffn, "Hidden size of an expert")->capture_default_str();
  app.add_option("--experts", o.experts)->capture_default_str();
  app.add_option("--top-k", o.top_k)->capture_default_str();
  app.add_option("--heads", o.heads)->capture_default_str();
  app.add_option("--vocab", o.vocab)->capture_default_str();
  app.add_option("--peak-tflops", o.peak_tflops,
                 "Dense bf16 peak of the GPU; 0: by its name, if that is known")
      ->capture_default_str();
  app.add_option("--parts", o.parts, "Which tables; exchange stands alone, under mpirun")
      ->capture_default_str()
      ->delimiter(',')
      ->check(CLI::IsMember({"rows", "products", "attention", "exchange"}));
  app.add_option("--peer-bytes", o.peer_bytes, "Largest message of the exchange")->capture_default_str();
  app.add_option("--seconds", o.seconds, "Length of every case")->capture_default_str();
  app.add_option("--copy-bytes", o.copy_bytes, "Size of the copy that is the measure of bandwidth")
      ->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  const device::Availability gpus = device::availability();
  if (gpus.devices == 0) {
    fmt::print("skipped: {}\n", gpus.reason);
    return 77;
  }
  if (o.parts == std::vector<std::string>{"exchange"}) return run_exchange(o.peer_bytes);
  device::select(0);
  if (o.peak_tflops == 0) o.peak_tflops = known_peak_tflops(device::name(0));
  Bench bench(o);
  const auto wanted = [&](const char* part) { return std::ranges::count(o.parts, part) > 0; };
  if (wanted("rows")) bench.rows();
  if (wanted("products")) bench.products();
  if (wanted("attention")) bench.attention();
  return 0;
}

}  // namespace
}  // namespace jevons

int main(int argc, char** argv) {
  try {
    return jevons::run(argc, argv);
  } catch (const jevons::Error& error) {
    fmt::print(stderr, "{}\n", error.what());
    return static_cast<int>(error.code());
  }
}
