// Latent attention against its definition, element by element in fp64, and what tensor parallelism and
// recomputation leave as it is. Its gradients: branch_test.cpp.
#include "trainer/model/mla.h"

#include <cmath>

#include "tests/model/branch_check.h"
#include "tests/support/presets.h"
#include "tests/support/tensor_parallel.h"
#include "tests/support/tiny_model.h"

namespace jevons::test {
namespace {

using Rows = std::vector<std::vector<double>>;

// One worker's branch "attn", by its definition.
class Definition {
 public:
  Definition(const ParamStore& store, const ModelConfig& config) : store_(store), config_(config) {}

  Rows output(const Rows& x, std::int64_t length, std::int64_t second_document) const {
    const MlaConfig& mla = config_.mla;
    Rows q, latent, rotated, kv;
    for (std::size_t t = 0; t < x.size(); ++t) {
      const auto position = static_cast<std::int64_t>(t) % length;
      const std::vector<double> queries =
          mla.q_lora_rank > 0 ? times("q_b", norm("q_a_norm", times("q_a", x[t]))) : times("q", x[t]);
      q.push_back(queries);
      for (std::int64_t h = 0; h < config_.num_heads; ++h)
        rotate(&q.back()[static_cast<std::size_t>(h * config_.head_dim + mla.qk_nope_head_dim)], position);
      std::vector<double> down = times("kv_a", x[t]);
      rotated.emplace_back(down.begin() + mla.kv_lora_rank, down.end());
      rotate(rotated.back().data(), position);
      down.resize(static_cast<std::size_t>(mla.kv_lora_rank));
      kv.push_back(times("kv_b", norm("kv_a_norm", down)));
    }
    Rows y;
    for (std::int64_t t = 0; t < std::ssize(x); ++t) {
      const std::int64_t begin = t / length * length,
                         first = begin + (t - begin >= second_document ? second_document : 0);
      y.push_back(times("o", mixed(q[static_cast<std::size_t>(t)], rotated, kv, first, t)));
    }
    return y;
  }

 private:
  // Of the heads of row t, which sees rows first .. t.
  std::vector<double> mixed(const std::vector<double>& q, const Rows& rotated, const Rows& kv,
                            std::int64_t first, std::int64_t t) const {
    const std::int64_t n = config_.mla.qk_nope_head_dim, r = config_.mla.qk_rope_head_dim,
                       v = config_.mla.v_head_dim;
    std::vector<double> out;
    for (std::int64_t h = 0; h < config_.num_heads; ++h) {
      std::vector<double> share, sum(static_cast<std::size_t>(v));
      double total = 0;
      for (std::int64_t s = first; s <= t; ++s) {
        const auto& key = kv[static_cast<std::size_t>(s)];
        const auto& turned = rotated[static_cast<std::size_t>(s)];
        double score = 0;
        for (std::int64_t i = 0; i < n; ++i) score += at(q, h * (n + r) + i) * at(key, h * (n + v) + i);
        for (std::int64_t i = 0; i < r; ++i) score += at(q, h * (n + r) + n + i) * at(turned, i);
        share.push_back(std::exp(score * softmax_scale(config_)));
        total += share.back();
      }
      for (std::int64_t s = first; s <= t; ++s) {
        for (std::int64_t i = 0; i < v; ++i)
          sum[static_cast<std::size_t>(i)] += share[static_cast<std::size_t>(s - first)] / total *
                                              at(kv[static_cast<std::size_t>(s)], h * (n + v) + n + i);
      }
      out.insert(out.end(), sum.begin(), sum.end());
    }
    return out;
  }
  static double at(const std::vector<double>& x, std::int64_t i) { return x[static_cast<std::size_t>(i)]; }

  Tensor weight(const std::string& name) const { return store_.weight(store_.find("attn." + name).value()); }

  std::vector<double> times(const std::string& name, const std::vector<double>& x) const {
    const Tensor w = weight(name);
    REQUIRE(w.shape[1] == std::ssize(x));
    std::vector<double> y(static_cast<std::size_t>(w.shape[0]));
    for (std::int64_t o = 0; o < w.shape[0]; ++o) {
      for (std::int64_t i = 0; i < w.shape[1]; ++i)
        y[static_cast<std::size_t>(o)] += element(w, o * w.shape[1] + i) * at(x, i);
    }
    return y;
  }
  std::vector<double> norm(const std::string& name, std::vector<double> x) const {
    double squares = 0;
    for (const double value : x) squares += value * value;
    const double root = std::sqrt(squares / static_cast<double>(x.size()) + 1e-6);
    for (std::size_t i = 0; i < x.size(); ++i)
      x[i] *= element(weight(name), static_cast<std::int64_t>(i)) / root;
    return x;
  }
  void rotate(double* x, std::int64_t position) const {
    const RopeFrequencies frequencies = rope_frequencies(config_);
    const std::int64_t half = config_.mla.qk_rope_head_dim / 2;
    const bool neighbours = config_.rope.layout == RopeLayout::kInterleaved;
    for (std::int64_t i = 0; i < half; ++i) {
      const double angle = static_cast<double>(position) * frequencies.per_pair[static_cast<std::size_t>(i)];
      double &a = x[neighbours ? 2 * i : i], &b = x[neighbours ? 2 * i + 1 : half + i];
      const double low = a, high = b, size = frequencies.amplitude;
      a = size * (low * std::cos(angle) - high * std::sin(angle));
      b = size * (high * std::cos(angle) + low * std::sin(angle));
    }
  }

  const ParamStore& store_;
  const ModelConfig& config_;
};

Rows matrix_of(Tensor x) {
  Rows rows(static_cast<std::size_t>(x.rows()));
  for (std::int64_t i = 0; i < x.numel(); ++i)
    rows[static_cast<std::size_t>(i / x.cols())].push_back(element(x, i));
  return rows;
}

}  // namespace

TEST_CASE("latent attention: forward is its definition", "[model]") {
  ModelConfig config = tiny_latent(GENERATE(0, 5));
  config.norm_eps = 0.1;  // not that of the latents' norms
  config.rope.layout = GENERATE(RopeLayout::kHalf, RopeLayout::kInterleaved);
  MetaCommunicator world(0, 1);
  TestBed bed(world);
  const RopeTable rope = rope_of(Device::kCpu, DType::kF64, config);
  const LatentAttention attention(bed.store, config, "attn", rope);
  bed.place_weights();
  const Tensor x = bed.random({16, config.hidden_size}, "x", 0.05);  // latents whose norms feel their eps
  LatentAttention::Saved saved;
  const Tensor y = run_forward(attention, bed.ctx, x, sequences_of(bed, 2, config.seq_len, 5), saved);
  const Rows got = matrix_of(y), want = Definition(bed.store, config).output(matrix_of(x), config.seq_len, 5);
  REQUIRE(got.size() == want.size());
  for (std::size_t t = 0; t < got.size(); ++t) {
    INFO("row " << t);
    for (std::size_t i = 0; i < got[t].size(); ++i) CHECK(got[t][i] == Approx(want[t][i]).margin(1e-13));
  }
}

TEST_CASE("latent attention: weights by name, shape and what splits them", "[model]") {
  const bool latent = GENERATE(false, true);
  ModelConfig config = deepseek_v3();
  if (!latent) config.mla.q_lora_rank = 0;
  MetaCommunicator world(0, 2);
  TestBed bed(world, DType::kBF16, {.tp = 2}, Device::kMeta);
  const RopeTable rope = rope_of(Device::kMeta, DType::kBF16, config);
  const LatentAttention attention(bed.store, config, "attn", rope);
  struct Weight {
    std::string name;
    Shape shape;
    int tp_dim;
    bool operator==(const Weight&) const = default;
  };
  std::vector<Weight> got;
  for (const Param& p : bed.store.params()) got.push_back({p.spec.name, p.spec.shape, p.spec.tp_dim});
  const std::vector<Weight> queries =
      latent ? std::vector<Weight>{{"attn.q_a", {1536, 7168}, -1}} : std::vector<Weight>{};
  std::vector<Weight> want = queries;
  want.push_back({"attn.kv_a", {576, 7168}, -1});
  if (latent) want.push_back({"attn.q_a_norm", {1536}, -1});
  want.push_back(latent ? Weight{"attn.q_b", {24576, 1536}, 0} : Weight{"attn.q", {24576, 7168}, 0});
  want.insert(want.end(),
              {{"attn.kv_a_norm", {512}, -1}, {"attn.kv_b", {32768, 512}, 0}, {"attn.o", {7168, 16384}, 1}});
  CHECK((got == want));
  CHECK(attention.score_flops_per_token(4096) == 3.0 * 64 * (192 + 128) * 4096);
}

TEST_CASE("latent attention: tensor parallel equals one worker", "[model][ranks]") {
  const ModelConfig config = tiny_latent(GENERATE(0, 5));
  const Recompute recompute = GENERATE(Recompute::kNone, Recompute::kSelective, Recompute::kFull);
  check_tensor_parallel(16, config.hidden_size, {2, 4}, [&](TestBed& bed, Tensor x, Tensor dy) {
    const RopeTable rope = rope_of(Device::kCpu, DType::kF64, config);
    const LatentAttention attention(bed.store, config, "attn", rope);
    bed.place_weights();
    LatentAttention::Saved saved;
    const Sequences sequences = sequences_of(bed, 2, config.seq_len, 5);
    const Tensor y = run_forward(attention, bed.ctx, x, sequences, saved, recompute);
    const Tensor dx = run_backward(attention, bed.ctx, x, dy, saved, recompute);
    return ForwardBackward{to_vector(y), to_vector(dx)};
  });
}

// One exchange each way carries the latents alone; without a latent of the queries x goes too.
TEST_CASE("latent attention: what tensor parallelism sends", "[model]") {
  const bool latent = GENERATE(false, true);
  ModelConfig config = deepseek_v3();
  if (!latent) config.mla.q_lora_rank = 0;
  MetaCommunicator world(0, 8);
  TestBed bed(world, DType::kBF16, {.tp = 8}, Device::kMeta);
  const RopeTable rope = rope_of(Device::kMeta, DType::kBF16, config);
  LatentAttention attention(bed.store, config, "attn", rope);
  bed.store.allocate();
  bed.mesh.set_listener(&bed.meter);
  const std::int64_t rows = config.seq_len / 8, width = latent ? 1536 + 576 : 576 + 7168;
  const Tensor x = bed.random({rows, 7168}, "x");
  LatentAttention::Saved saved;
  const Sequences sequences = sequences_of(bed, 1, config.seq_len);
  run_forward(attention, bed.ctx, x, sequences, saved, Recompute::kSelective);
  CHECK(bed.meter[WorkKind::kWire].bytes == 7.0 * 2 * static_cast<double>(rows * (width + 7168)));
}

// What DeepSeek-V3 keeps of a token: both latents with the key's rotated part, the output of the heads and
// log-sum-exp.
TEST_CASE("latent attention: selective recompute keeps the latents", "[model]") {
  const ModelConfig config = deepseek_v3();
  MetaCommunicator world(0, 1);
  TestBed bed(world, DType::kBF16, {}, Device::kMeta);
  const RopeTable rope = rope_of(Device::kMeta, DType::kBF16, config);
  LatentAttention attention(bed.store, config, "attn", rope);
  bed.store.allocate();
  const Tensor x = bed.random({4096, 7168}, "x");
  const auto kept = [&](Recompute mode) {
    bed.stash.reset();
    LatentAttention::Saved saved;
    run_forward(attention, bed.ctx, x, sequences_of(bed, 1, 4096), saved, mode);
    return bed.stash.used_bytes() / 4096;
  };
  CHECK(kept(Recompute::kSelective) == 2 * (1536 + 576 + 128 * 128) + 4 * 128);
  CHECK(kept(Recompute::kNone) ==
        2 * (1536 + 576 + 2 * 128 * 192 + 128 * 256 + 1536 + 512 + 128 * 128) + 4 * (128 + 2));
  CHECK(kept(Recompute::kFull) == 0);
}

// A row must not see what comes after it, nor another document, nor another sequence.
TEST_CASE("latent attention: what a row depends on", "[model]") {
  const ModelConfig config = tiny_latent(GENERATE(0, 5));
  MetaCommunicator world(0, 1);
  TestBed bed(world);
  const RopeTable rope = rope_of(Device::kCpu, DType::kF64, config);
  const LatentAttention attention(bed.store, config, "attn", rope);
  bed.place_weights();
  const Sequences sequences = sequences_of(bed, 2, config.seq_len, 5);
  const Tensor x = bed.random({2 * config.seq_len, config.hidden_size}, "x");
  const auto run = [&] {
    LatentAttention::Saved saved;
    return to_vector(run_forward(attention, bed.ctx, x, sequences, saved));
  };
  const std::vector<double> before = run();
  const std::int64_t changed = 3;  // first document of the first sequence
  x.ptr<double>()[changed * config.hidden_size] += 1;
  const std::vector<double> after = run();
  for (std::int64_t t = 0; t < 2 * config.seq_len; ++t) {
    const bool sees = t >= changed && t < 5;
    const auto at = static_cast<std::size_t>(t * config.hidden_size);
    INFO("row " << t);
    CHECK((after[at] != before[at]) == sees);
  }
}

}  // namespace jevons::test
