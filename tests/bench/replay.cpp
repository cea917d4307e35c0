// Replays the matrix products, the attention and the AdamW pass of one training step of an MoE transformer,
// and nothing else (no norms, activations, routing, row movement, embedding or loss). Its tokens/s are the
// ceiling that a whole training step is compared with on the same machine, in the same minute.
#include <CLI/CLI.hpp>
#include <cmath>
#include <cstdio>
#include <deque>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string>

#include "kernels/attention.h"
#include "kernels/core/rng.h"
#include "kernels/gemm.h"
#include "kernels/optimizer.h"
#include "tests/bench/measure.h"

namespace jevons::bench {
namespace {

struct Config {
  std::int64_t layers = 4, hidden = 256, heads = 4, kv_heads = 0, experts = 8, top_k = 2, ffn = 512,
               context = 256, batch = 8, vocab = 256;
  std::string dtype = "f32";
  int threads = 1, samples = 7;
  double skew = 0.35;  // standard deviation of the log of an expert's share of the rows
};

struct Times {
  double gemm = 0, attention = 0, adamw = 0;
};

class Replay {
 public:
  explicit Replay(const Config& c) : c_(c), dtype_(c.dtype == "bf16" ? DType::kBF16 : DType::kF32) {
    ctx_.compute = dtype_;
    ctx_.threads = c.threads;
    ctx_.listener = &meter_;
    const std::int64_t tokens = c.batch * c.context, rows = tokens * c.top_k, head_dim = c.hidden / c.heads;
    const std::int64_t qkv_cols = (c.heads + 2 * c.kv_heads) * head_dim;
    for (std::int64_t layer = 0; layer < c.layers; ++layer) {
      layers_.push_back({weight({qkv_cols, c.hidden}), weight({c.hidden, c.hidden}),
                         weight({c.experts, 2 * c.ffn, c.hidden}), weight({c.experts, c.hidden, c.ffn})});
    }
    head_ = weight({c.vocab, c.hidden});
    embedding_ = weight({c.vocab, c.hidden});
    x_ = activation({tokens, c.hidden});
    qkv_ = activation({tokens, qkv_cols});
    attended_ = activation({tokens, c.hidden});
    lse_ = tensor({tokens, c.heads}, DType::kF32, 0);
    logits_ = activation({tokens, c.vocab});
    rows_ = activation({rows, c.hidden});
    gate_up_ = activation({rows, 2 * c.ffn});
    inner_ = activation({rows, c.ffn});
    d_x_ = activation({tokens, c.hidden});
    d_qkv_ = activation({tokens, qkv_cols});
    d_rows_ = activation({rows, c.hidden});
    expert_out_ = activation({rows, c.hidden});
  }

  Times step() {
    draw_offsets();
    Times t;
    const Stopwatch whole(c_.threads);
    for (const Layer& layer : layers_) forward(layer, t);
    linear_forward(ctx_, x_, head_.value, logits_);
    dense_backward(head_, logits_, x_, d_x_);
    for (auto layer = layers_.rbegin(); layer != layers_.rend(); ++layer) backward(*layer, t);
    t.gemm = whole.seconds() - t.attention;
    const Stopwatch watch(c_.threads);
    for (const Weight& w : weights_) {
      adamw_step(ctx_, {.lr = 1e-6, .step = ++steps_}, {w.master, w.moment1, w.moment2, w.grad, w.value});
    }
    t.adamw = watch.seconds();
    return t;
  }
  // Of the matrix products of one step.
  double gemm_flops() {
    meter_.reset();
    step();
    return meter_[WorkKind::kGemm].flops + meter_[WorkKind::kGroupedGemm].flops;
  }

 private:
  struct Weight {
    Tensor value, master, moment1, moment2, grad;
  };
  struct Layer {
    Weight qkv, out, gate_up, down;
  };

  Tensor tensor(Shape shape, DType dtype, double amplitude) {
    buffers_.emplace_back(Device::kCpu, static_cast<std::size_t>(shape.numel()) * size_of(dtype));
    const Tensor t = buffers_.back().view(0, shape, dtype);
    for (std::int64_t i = 0; i < t.numel() && amplitude > 0; ++i) {
      const auto value =
          static_cast<float>(amplitude * (static_cast<double>(i * 2654435761u >> 20 & 255) / 128 - 1));
      if (dtype == DType::kF32) t.ptr<float>()[i] = value;
      if (dtype == DType::kBF16) t.ptr<bf16>()[i] = bf16(value);
    }
    return t;
  }
  Tensor activation(Shape shape) { return tensor(shape, dtype_, 0.1); }
  Weight weight(Shape shape) {
    const Tensor master = tensor(shape, DType::kF32, 0.02);
    const Tensor value = dtype_ == DType::kF32 ? master : tensor(shape, dtype_, 0.02);
    const Weight w{value, master, tensor(shape, DType::kF32, 0), tensor(shape, DType::kF32, 0),
                   tensor(shape, DType::kF32, 0)};
    const auto flat = [](const Tensor& t) { return t.reshape({t.numel()}); };
    weights_.push_back({flat(w.value), flat(w.master), flat(w.moment1), flat(w.moment2), flat(w.grad)});
    return w;
  }

  // New row counts at each step, as routing gives them.
  void draw_offsets() {
    const RandomStream random(3, "rows");
    const auto experts = static_cast<std::size_t>(c_.experts);
    std::vector<double> share(experts);
    for (std::size_t e = 0; e < experts; ++e) share[e] = std::exp(c_.skew * random.normal(draws_++));
    const double sum = std::accumulate(share.begin(), share.end(), 0.0);
    offsets_.assign(experts + 1, 0);
    double up_to = 0;
    for (std::size_t e = 0; e < experts; ++e) {
      up_to += share[e] / sum;
      offsets_[e + 1] = std::llround(up_to * static_cast<double>(rows_.shape[0]));
    }
    offsets_.back() = rows_.shape[0];
  }

  AttentionSaved saved() const {
    const std::int64_t dim = c_.hidden / c_.heads;
    return {{qkv_, 0, c_.heads, dim},
            {qkv_, c_.hidden, c_.kv_heads, dim},
            {qkv_, c_.hidden + c_.kv_heads * dim, c_.kv_heads, dim},
            {attended_, 0, c_.heads, dim},
            {},
            lse_};
  }
  AttentionShape shape() const {
    return AttentionShape::of_sequences(c_.batch, c_.context,
                                        1 / std::sqrt(static_cast<float>(c_.hidden / c_.heads)));
  }

  void forward(const Layer& l, Times& t) {
    linear_forward(ctx_, x_, l.qkv.value, qkv_);
    const Stopwatch watch(c_.threads);
    attention_forward(ctx_, shape(), saved());
    t.attention += watch.seconds();
    linear_forward(ctx_, attended_, l.out.value, d_x_);
    grouped_linear_forward(ctx_, offsets_, rows_, l.gate_up.value, gate_up_);
    grouped_linear_forward(ctx_, offsets_, inner_, l.down.value, expert_out_);
  }

  void dense_backward(const Weight& w, const Tensor& dy, const Tensor& x, const Tensor& dx) {
    linear_backward_input(ctx_, dy, w.value, dx);
    linear_backward_weight(ctx_, dy, x, w.grad);
  }

  void backward(const Layer& l, Times& t) {
    grouped_linear_backward_input(ctx_, offsets_, d_rows_, l.down.value, inner_);
    grouped_linear_backward_weight(ctx_, offsets_, d_rows_, inner_, l.down.grad);
    grouped_linear_backward_input(ctx_, offsets_, gate_up_, l.gate_up.value, expert_out_);
    grouped_linear_backward_weight(ctx_, offsets_, gate_up_, rows_, l.gate_up.grad);
    dense_backward(l.out, d_x_, attended_, attended_);
    const Stopwatch watch(c_.threads);
    AttentionSaved s = saved();
    const AttentionSaved grads{{d_qkv_, s.q.first_col, s.q.heads, s.q.head_dim},
                               {d_qkv_, s.k.first_col, s.k.heads, s.k.head_dim},
                               {d_qkv_, s.v.first_col, s.v.heads, s.v.head_dim},
                               {d_x_, 0, s.o.heads, s.o.head_dim},
                               {},
                               {}};
    attention_backward(ctx_, shape(), s, grads.o, {grads.q, grads.k, grads.v});
    t.attention += watch.seconds();
    dense_backward(l.qkv, d_qkv_, x_, d_x_);
  }

  Config c_;
  DType dtype_;
  Context ctx_;
  WorkMeter meter_;
  std::deque<Buffer> buffers_;
  std::vector<Layer> layers_;
  std::vector<Weight> weights_;  // the same, flat, for the optimizer
  Weight head_, embedding_;
  Tensor x_, qkv_, attended_, lse_, logits_, rows_, gate_up_, inner_, d_x_, d_qkv_, d_rows_, expert_out_;
  std::vector<std::int64_t> offsets_;
  std::uint64_t draws_ = 0;
  std::int64_t steps_ = 0;
};

int run(const Config& c, bool json) {
  Replay replay(c);
  const double flops = replay.gemm_flops();
  std::vector<double> gemm, attention, adamw, total;
  const double wait_share = sample(
      c.samples, [&] { return replay.step(); },
      [&](const Times& t) {
        gemm.push_back(t.gemm), attention.push_back(t.attention), adamw.push_back(t.adamw);
        total.push_back(t.gemm + t.attention + t.adamw);
      });
  const double seconds = median(total), tokens = static_cast<double>(c.batch * c.context);
  const double gflops = flops / median(gemm) * 1e-9;
  const char* backend = gemm_backend(c.dtype == "bf16" ? DType::kBF16 : DType::kF32).name;
  if (json) {
    const nlohmann::json line = {{"tokens_per_second", tokens / seconds},
                                 {"step_ms", seconds * 1e3},
                                 {"gemm_ms", median(gemm) * 1e3},
                                 {"attention_ms", median(attention) * 1e3},
                                 {"adamw_ms", median(adamw) * 1e3},
                                 {"gemm_gflops", gflops},
                                 {"core_wait_share", wait_share},
                                 {"gemm_backend", backend},
                                 {"dtype", c.dtype},
                                 {"threads", c.threads}};
    std::printf("%s\n", line.dump().c_str());
    return 0;
  }
  std::printf("%s, %d threads, gemm by %s: %.0f tokens/s, step %.2f ms\n", c.dtype.c_str(), c.threads,
              backend, tokens / seconds, seconds * 1e3);
  std::printf("gemm %.2f ms (%.1f GF/s), attention %.2f ms, adamw %.2f ms, waited for a core %.1f%%\n",
              median(gemm) * 1e3, gflops, median(attention) * 1e3, median(adamw) * 1e3, wait_share * 100);
  return 0;
}

}  // namespace
}  // namespace jevons::bench

int main(int argc, char** argv) {
  jevons::bench::Config c;
  bool json = false;
  CLI::App app("Ceiling of a training step: its matrix products, attention and AdamW, nothing else");
  app.add_option("--layers", c.layers)->capture_default_str();
  app.add_option("--hidden", c.hidden)->capture_default_str();
  app.add_option("--heads", c.heads)->capture_default_str();
  app.add_option("--kv-heads", c.kv_heads, "0: as many as heads")->capture_default_str();
  app.add_option("--experts", c.experts)->capture_default_str();
  app.add_option("--top-k", c.top_k)->capture_default_str();
  app.add_option("--ffn", c.ffn, "hidden width of one expert")->capture_default_str();
  app.add_option("--context", c.context, "tokens per sequence")->capture_default_str();
  app.add_option("--batch", c.batch, "sequences per step")->capture_default_str();
  app.add_option("--vocab", c.vocab)->capture_default_str();
  app.add_option("--dtype", c.dtype)->check(CLI::IsMember({"f32", "bf16"}))->capture_default_str();
  app.add_option("--threads", c.threads)->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--samples", c.samples)->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--skew", c.skew, "unevenness of the experts")->capture_default_str();
  app.add_flag("--json", json, "one line of JSON");
  CLI11_PARSE(app, argc, argv);
  if (c.kv_heads == 0) c.kv_heads = c.heads;
  return jevons::bench::run(c, json);
}
