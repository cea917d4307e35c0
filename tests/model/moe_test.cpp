// The MoE layer: against a plain reference, by finite differences, over expert ranks, recomputed, dry.
#include "trainer/model/moe.h"

#include <fmt/core.h>

#include <cmath>
#include <map>
#include <mutex>

#include "kernels/core/error.h"
#include "kernels/gemm.h"
#include "parallel/meta/meta_communicator.h"
#include "tests/model/grad_check.h"
#include "tests/support/thread_ranks.h"

namespace jevons {
namespace {

using test::TestBed;
using Values = std::vector<double>;

constexpr std::int64_t kHidden = 6, kSeq = 4;

ModelConfig small(const RouterRule& rule, std::int64_t shared = 1) {
  ModelConfig config;
  config.num_layers = 2, config.hidden_size = kHidden, config.seq_len = kSeq, config.init_std = 0.5;
  config.moe.router = rule;
  config.moe.expert_hidden_size = 6;
  config.moe.num_shared_experts = shared;
  return config;
}

const RouterRule kPlain{.num_experts = 4, .top_k = 2};

Values to_vector(Tensor t) {
  Values v;
  for (std::int64_t i = 0; i < t.numel(); ++i) v.push_back(test::element(t, i));
  return v;
}

Tensor weight_of(const ParamStore& store, const std::string& name) {
  for (ParamId id = 0; id < store.params().size(); ++id) {
    if (store.params()[id].spec.name == name) return store.weight(id);
  }
  fail(ExitCode::kFailure, "no weight {}", name);
}

// y += scale * SwiGLU network `name` of one row.
void add_swiglu(const ParamStore& store, const std::string& name, double scale, const double* x, double* y) {
  const Tensor gate = weight_of(store, name + ".gate"), up = weight_of(store, name + ".up"),
               down = weight_of(store, name + ".down");
  const auto product = [&](Tensor w, std::int64_t row) {
    double sum = 0;
    for (std::int64_t d = 0; d < kHidden; ++d) sum += test::element(w, row * kHidden + d) * x[d];
    return sum;
  };
  const std::int64_t hidden = gate.rows();
  for (std::int64_t f = 0; f < hidden; ++f) {
    const double g = product(gate, f), h = scale * g / (1 + std::exp(-g)) * product(up, f);
    for (std::int64_t d = 0; d < kHidden; ++d) y[d] += test::element(down, d * hidden + f) * h;
  }
}

// The layer as a loop over tokens, given the routing.
Values reference(const ParamStore& store, const RouterOutput& routing, Tensor x, bool shared) {
  Values y(static_cast<std::size_t>(x.numel()));
  const std::int64_t top_k = routing.indices.cols();
  for (std::int64_t t = 0; t < x.rows(); ++t) {
    const double* in = x.ptr<double>() + t * kHidden;
    double* out = y.data() + t * kHidden;
    for (std::int64_t k = 0; k < top_k; ++k) {
      const auto expert = routing.indices.ptr<std::int32_t>()[t * top_k + k];
      add_swiglu(store, fmt::format("layers.1.moe.experts.{}", expert),
                 test::element(routing.weights, t * top_k + k), in, out);
    }
    if (shared) add_swiglu(store, "layers.1.moe.shared", 1, in, out);
  }
  return y;
}

// The routing of all ranks' rows in order, for the losses' formulas.
struct Routing {
  Values logits, scores;
  std::vector<std::int64_t> indices;
  void append(const Router::Saved& saved) {
    for (double v : to_vector(saved.logits)) logits.push_back(v);
    for (double v : to_vector(saved.out.scores)) scores.push_back(v);
    for (std::int32_t i : saved.out.indices.span<std::int32_t>()) indices.push_back(i);
  }
};

// E sum_i (share of slots)_i (mean normalised score)_i over rows [begin, end); the load may come from other
// rows.
double balance_of(const Routing& r, const RouterRule& rule, std::int64_t begin, std::int64_t end,
                  std::int64_t load_begin, std::int64_t load_end) {
  const std::int64_t experts = rule.num_experts;
  double loss = 0;
  for (std::int64_t i = 0; i < experts; ++i) {
    double count = 0, mean = 0;
    for (std::int64_t s = load_begin * rule.top_k; s < load_end * rule.top_k; ++s) {
      count += r.indices[static_cast<std::size_t>(s)] == i ? 1 : 0;
    }
    for (std::int64_t t = begin; t < end; ++t) {
      double sum = 0;
      for (std::int64_t j = 0; j < experts; ++j) sum += r.scores[static_cast<std::size_t>(t * experts + j)];
      mean += r.scores[static_cast<std::size_t>(t * experts + i)] / sum / double(end - begin);
    }
    loss += double(experts) * count / double((load_end - load_begin) * rule.top_k) * mean;
  }
  return loss;
}

struct AuxLosses {
  double micro_batch = 0, sequence = 0, global = 0, z = 0;
  double total(const MoeConfig& moe) const {
    return moe.balance_loss * micro_batch + moe.sequence_balance_loss * sequence +
           moe.global_balance_loss * global + moe.z_loss * z;
  }
};

// As a mean over all rows, whose micro-batches have `micro_batch` rows each.
AuxLosses aux_losses(const Routing& r, const RouterRule& rule, std::int64_t micro_batch) {
  const std::int64_t rows = std::ssize(r.scores) / rule.num_experts;
  AuxLosses out;
  for (std::int64_t b = 0; b < rows; b += micro_batch) {
    const double share = double(micro_batch) / double(rows);
    out.micro_batch += share * balance_of(r, rule, b, b + micro_batch, b, b + micro_batch);
    out.global += share * balance_of(r, rule, b, b + micro_batch, 0, rows);
  }
  for (std::int64_t s = 0; s < rows; s += kSeq) {
    out.sequence += double(kSeq) / double(rows) * balance_of(r, rule, s, s + kSeq, s, s + kSeq);
  }
  for (std::int64_t t = 0; t < rows; ++t) {
    double sum = 0;
    for (std::int64_t i = 0; i < rule.num_experts; ++i) {
      sum += std::exp(r.logits[static_cast<std::size_t>(t * rule.num_experts + i)]);
    }
    out.z += std::log(sum) * std::log(sum) / double(rows);
  }
  return out;
}

LossScales scales_of(std::int64_t rows, std::int64_t micro_batch) {
  return {.token = 1,
          .micro_batch = double(micro_batch) / double(rows),
          .sequence = double(kSeq) / double(rows),
          .position = 1 / double(rows)};
}

ModelConfig with_losses(ModelConfig config) {
  config.moe.balance_loss = 0.3, config.moe.sequence_balance_loss = 0.2;
  config.moe.global_balance_loss = 0.4, config.moe.z_loss = 0.05;
  return config;
}

std::vector<ModelConfig> variants() {
  ModelConfig sigmoid = small({.num_experts = 8,
                               .top_k = 3,
                               .score = ScoreFunction::kSigmoid,
                               .scaling_factor = 2.5,
                               .groups = 4,
                               .groups_kept = 2});
  sigmoid.moe.use_selection_bias = true;
  ModelConfig dropping = small(kPlain);
  dropping.moe.capacity_factor = 0.6;
  return {
      with_losses(small(kPlain, 0)), with_losses(small(kPlain)), with_losses(sigmoid),
      with_losses(small({.num_experts = 4, .top_k = 2, .top_k_before_score = true, .renormalize = false})),
      with_losses(dropping)};
}

}  // namespace

TEST_CASE("moe: forward equals a loop over tokens and experts", "[moe]") {
  for (const ModelConfig& config : variants()) {
    if (config.moe.capacity_factor > 0) continue;
    MetaCommunicator world(0, 1);
    TestBed bed(world);
    Moe moe(bed.store, config, 1);
    bed.place_weights();
    const Tensor x = bed.random({3 * kSeq, kHidden}, "x");
    Moe::Saved saved;
    const Tensor y = moe.forward(bed.ctx, x, saved);
    const Values want = reference(bed.store, saved.routing.out, x, config.moe.num_shared_experts > 0);
    for (std::int64_t i = 0; i < y.numel(); ++i) {
      CHECK(test::element(y, i) == Approx(want[static_cast<std::size_t>(i)]).epsilon(1e-11).margin(1e-12));
    }
  }
}

TEST_CASE("moe: gradients of the input and of every weight, with all balance losses", "[moe]") {
  const std::size_t variant = GENERATE(0u, 1u, 2u, 3u, 4u);
  const Recompute recompute = GENERATE(Recompute::kNone, Recompute::kSelective, Recompute::kFull);
  ModelConfig config = variants()[variant];
  config.recompute = recompute;
  INFO("variant " << variant << " recompute " << static_cast<int>(recompute));
  MetaCommunicator world(0, 1);
  TestBed bed(world);
  Moe moe(bed.store, config, 1);
  bed.place_weights();
  if (config.moe.use_selection_bias) test::fill_normal(moe.selection_bias(), "bias", 0.1);
  const std::int64_t rows = 3 * kSeq;
  const Tensor x = bed.random({rows, kHidden}, "x"), dy = test::projection_of(bed, x.shape);
  Moe::Saved saved;
  AuxLosses aux;
  test::GradProblem problem;
  problem.inputs = {x};
  problem.loss = [&](const Context& ctx) {
    const double loss = test::dot(moe.forward(ctx, x, saved), dy);
    Routing routing;
    routing.append(saved.routing);
    aux = aux_losses(routing, config.moe.router, rows);
    return loss + aux.total(config.moe);
  };
  problem.backward = [&](const Context& ctx) {
    REQUIRE((saved.plan.dropped > 0) == (config.moe.capacity_factor > 0));
    if (recompute != Recompute::kNone) moe.restore(ctx, x, saved);
    const Tensor dx = moe.backward(ctx, dy, saved, scales_of(rows, rows));
    Balance* const layer[] = {&moe.balance()};
    const LayerHealth health = Balance::end_step(ctx, layer, BiasUpdate::kSkip)[0];
    CHECK(health.micro_batch_balance == Approx(aux.micro_batch).epsilon(1e-12));
    CHECK(health.sequence_balance == Approx(aux.sequence).epsilon(1e-12));
    CHECK(health.global_balance == Approx(aux.global).epsilon(1e-12));
    CHECK(health.z_loss == Approx(aux.z).epsilon(1e-12));
    CHECK(health.dropped_slots == saved.plan.dropped);
    CHECK(health.max_rows == saved.plan.rows);
    return std::vector<Tensor>{dx};
  };
  test::check_gradients(bed, problem, {.tolerance = 2e-7});
}

namespace {

struct GridPoint {
  const char* name;
  Layout layout;
};

// Central differences over two ranks. Every rank changes its own copy of a replicated weight at once; other
// weights and inputs change on one rank after the other. Errors throw, since ranks are threads.
class RankGradientCheck {
 public:
  RankGradientCheck(Communicator& world, TestBed& bed, std::function<double()> loss)
      : world_(world), bed_(bed), loss_(std::move(loss)) {}

  void check_weight(ParamId id, Values gradient) {
    const Param& param = bed_.store.params()[id];
    if (param.sync == SyncGroup::kReplicated) {
      world_.all_reduce({gradient.data(), {std::ssize(gradient)}, DType::kF64, Device::kCpu}).wait();
      probe(param.spec.name, bed_.store.weight(id), gradient, true);
    } else {
      check_own(param.spec.name, bed_.store.weight(id), gradient);
    }
  }
  void check_own(const std::string& name, Tensor values, const Values& gradient) {
    for (int turn = 0; turn < world_.size(); ++turn) probe(name, values, gradient, world_.rank() == turn);
  }

 private:
  void probe(const std::string& name, Tensor values, const Values& gradient, bool mine) {
    const std::int64_t probes = std::min<std::int64_t>(values.numel(), 10);
    for (std::int64_t probe = 0; probe < probes; ++probe) {
      const std::int64_t i = probe * values.numel() / probes;
      double& value = values.ptr<double>()[i];
      const double before = value, step = 1e-5;
      if (mine) value = before + step;
      const double up = loss_();
      if (mine) value = before - step;
      const double down = loss_();
      value = before;
      const double numeric = (up - down) / (2 * step), exact = gradient[static_cast<std::size_t>(i)];
      ENSURE(!mine || std::abs(numeric - exact) <= 2e-7 * std::max(1.0, std::abs(exact)),
             "rank {}: {}[{}]: backward {}, difference {}", world_.rank(), name, i, exact, numeric);
    }
  }

  Communicator& world_;
  TestBed& bed_;
  std::function<double()> loss_;
};

}  // namespace

TEST_CASE("moe: gradients over two ranks, with all balance losses", "[moe]") {
  const GridPoint point =
      GENERATE(GridPoint{"dp 2, ep 2", {.dp = 2, .ep = 2}}, GridPoint{"tp 2, ep 2", {.tp = 2, .ep = 2}});
  ModelConfig config = with_losses(small(kPlain));
  config.moe.use_selection_bias = true;
  const std::int64_t held = 3 * kSeq / 2 * 2,
                     rows = 2 * held;  // per rank; tp cuts no sequence evenly in half
  const std::int64_t micro_batch = point.layout.tp == 2 ? rows : held;
  std::vector<Routing> routing(2);
  INFO(point.name);
  test::run_ranks(2, [&](Communicator& world) {
    TestBed bed(world, DType::kF64, point.layout);
    Moe moe(bed.store, config, 1);
    bed.place_weights();
    const std::int64_t first = world.rank() * held;
    const Tensor x = bed.random({rows, kHidden}, "x").slice(first, first + held);
    const Tensor dy = bed.random({rows, kHidden}, "dy").slice(first, first + held);
    Moe::Saved saved;
    const auto forward = [&] {
      test::reset_and_poison(bed.stash), test::reset_and_poison(bed.work);
      saved = {};
      double loss = test::dot(moe.forward(bed.ctx, x, saved), dy);
      routing[static_cast<std::size_t>(world.rank())] = {};
      routing[static_cast<std::size_t>(world.rank())].append(saved.routing);
      world.all_reduce({&loss, {1}, DType::kF64, Device::kCpu}).wait();
      Routing all = routing[0];
      for (double v : routing[1].logits) all.logits.push_back(v);
      for (double v : routing[1].scores) all.scores.push_back(v);
      for (std::int64_t v : routing[1].indices) all.indices.push_back(v);
      world.barrier();
      return loss + aux_losses(all, config.moe.router, micro_batch).total(config.moe);
    };
    forward();
    for (ParamGroup& group : bed.store.groups()) {
      for (double& g : group.grads.span<double>()) g = 0.75;
    }
    const Values dx = to_vector(moe.backward(bed.ctx, dy, saved, scales_of(rows, micro_batch)));
    RankGradientCheck check(world, bed, forward);
    check.check_own("x", x, dx);
    for (ParamId id = 0; id < bed.store.params().size(); ++id) {
      Values gradient = to_vector(bed.store.grad(id));
      for (double& g : gradient) g -= 0.75;
      check.check_weight(id, gradient);
    }
  });
}

namespace {

struct Pass {
  Values y, dx;
  std::map<std::string, Values> expert_gradients;
};

// Forward and backward of all rows over `ep` ranks, each with its own part of them.
Pass pass_over_ranks(const ModelConfig& config, DType dtype, int ep, std::int64_t rows) {
  Pass pass{Values(static_cast<std::size_t>(rows * config.hidden_size)), {}, {}};
  pass.dx = pass.y;
  std::mutex mutex;
  test::run_ranks(ep, [&](Communicator& world) {
    TestBed bed(world, dtype, {.dp = ep, .ep = ep});
    Moe moe(bed.store, config, 1);
    bed.place_weights();
    const std::int64_t held = rows / ep, first = world.rank() * held, cols = config.hidden_size;
    const Tensor x = bed.random({rows, cols}, "x").slice(first, first + held);
    const Tensor dy = bed.random({rows, cols}, "dy").slice(first, first + held);
    Moe::Saved saved;
    const Values y = to_vector(moe.forward(bed.ctx, x, saved));
    const Values dx = to_vector(moe.backward(bed.ctx, dy, saved, scales_of(rows, held)));
    const std::lock_guard lock(mutex);
    std::copy(y.begin(), y.end(), pass.y.begin() + first * cols);
    std::copy(dx.begin(), dx.end(), pass.dx.begin() + first * cols);
    for (ParamId id = 0; id < bed.store.params().size(); ++id) {
      const ParamSpec& spec = bed.store.params()[id].spec;
      if (spec.expert) pass.expert_gradients[spec.name] = to_vector(bed.store.grad(id));
    }
  });
  return pass;
}

ModelConfig wider(std::int64_t shared) {
  ModelConfig config = small({.num_experts = 8, .top_k = 3}, shared);
  config.hidden_size = 40, config.moe.expert_hidden_size = 24, config.moe.z_loss = 0.01, config.seq_len = 2;
  return config;
}

}  // namespace

TEST_CASE("moe: output, input gradient and expert gradients have the same bits on 1, 2 and 4 expert ranks",
          "[moe]") {
  const DType dtype = GENERATE(DType::kF64, DType::kF32, DType::kBF16);
  const std::int64_t rows = GENERATE(8, 64);  // 2 tokens per rank: experts without tokens
  if (!row_invariant_gemm(dtype) || !row_invariant_gemm(DType::kF32)) {
    WARN("skipped for " << name_of(dtype) << ": this CPU's products are not row-invariant");
    return;
  }
  const Pass one = pass_over_ranks(wider(1), dtype, 1, rows);
  CHECK(one.expert_gradients.size() == 8 * 3);
  for (int ep : {2, 4}) {
    const Pass many = pass_over_ranks(wider(1), dtype, ep, rows);
    INFO("ep " << ep << " " << name_of(dtype));
    CHECK(many.y == one.y);
    CHECK(many.dx == one.dx);
    CHECK(many.expert_gradients == one.expert_gradients);
  }
}

TEST_CASE("moe: reduce_at_expert changes no more than the last bits", "[moe]") {
  ModelConfig config = wider(0);
  const Pass one = pass_over_ranks(config, DType::kF64, 1, 32);
  config.moe.reduce_at_expert = true;
  const Pass many = pass_over_ranks(config, DType::kF64, 4, 32);
  for (std::size_t i = 0; i < one.y.size(); ++i) {
    CHECK(std::abs(many.y[i] - one.y[i]) < 1e-13 * std::max(1.0, std::abs(one.y[i])));
    CHECK(std::abs(many.dx[i] - one.dx[i]) < 1e-12 * std::max(1.0, std::abs(one.dx[i])));
  }
}

TEST_CASE("moe: recomputation gives the same bits, keeps less, and never routes again", "[moe]") {
  ModelConfig config = wider(1);
  config.moe.balance_loss = 0.1;
  const std::int64_t rows = 32;
  struct Result {
    Values dx, gradients;
    std::size_t kept = 0;
  };
  const auto run = [&](Recompute recompute, bool disturb_router) {
    config.recompute = recompute;
    MetaCommunicator world(0, 1);
    TestBed bed(world, DType::kF32);
    Moe moe(bed.store, config, 1);
    bed.place_weights();
    const Tensor x = bed.random({rows, config.hidden_size}, "x"), dy = bed.random(x.shape, "dy");
    Moe::Saved saved;
    moe.forward(bed.ctx, x, saved);
    Result result;
    result.kept = bed.stash.used_bytes();
    test::reset_and_poison(bed.work);
    const Tensor router = bed.store.weight(0);
    const Values before = to_vector(router);
    if (disturb_router) test::fill_normal(router, "another router");
    if (recompute != Recompute::kNone) moe.restore(bed.ctx, x, saved);
    for (std::size_t i = 0; i < before.size(); ++i) router.ptr<float>()[i] = static_cast<float>(before[i]);
    result.dx = to_vector(moe.backward(bed.ctx, dy, saved, scales_of(rows, rows)));
    for (ParamId id = 0; id < bed.store.params().size(); ++id) {
      for (double g : to_vector(bed.store.grad(id))) result.gradients.push_back(g);
    }
    CHECK(bed.stash.used_bytes() == result.kept);
    return result;
  };
  const Result none = run(Recompute::kNone, false);
  const Result selective = run(Recompute::kSelective, true), full = run(Recompute::kFull, true);
  CHECK(selective.dx == none.dx);
  CHECK(selective.gradients == none.gradients);
  CHECK(full.dx == none.dx);
  CHECK(full.gradients == none.gradients);
  CHECK(selective.kept < none.kept);
  CHECK(full.kept < selective.kept);
}

namespace {

struct Usage {
  double flops, wire, traffic;
  std::size_t stash, work;
  bool operator==(const Usage&) const = default;
};

// Row t of x is the unit vector t % 6, and the router prefers for it the t % 6-th pair of 4 experts: every
// expert and every pair equally often.
Usage usage_of(Communicator& world, const ModelConfig& config, DType dtype, Device device) {
  TestBed bed(world, dtype, {.dp = world.size(), .ep = world.size()}, device);
  Moe moe(bed.store, config, 1);
  bed.store.allocate();
  bed.mesh.set_meter(&bed.meter);
  const std::int64_t rows = 12;
  const Tensor x = bed.tensor({rows, kHidden}, dtype), dy = bed.random({rows, kHidden}, "dy");
  if (device != Device::kMeta) {
    bed.store.initialize(1);
    const int pairs[6][2] = {{0, 1}, {0, 2}, {0, 3}, {1, 2}, {1, 3}, {2, 3}};
    const Tensor router = bed.store.weight(0);
    for (float& w : router.span<float>()) w = 0;
    for (int d = 0; d < 6; ++d) {
      for (int e : pairs[d]) router.ptr<float>()[e * kHidden + d] = 5;
    }
    for (std::int64_t t = 0; t < rows; ++t) {
      const std::int64_t i = t * kHidden + t % 6;
      dtype == DType::kF32 ? void(x.ptr<float>()[i] = 1) : void(x.ptr<bf16>()[i] = bf16(1.0f));
    }
  }
  Moe::Saved saved;
  moe.forward(bed.ctx, x, saved);
  if (config.recompute != Recompute::kNone) moe.restore(bed.ctx, x, saved);
  moe.backward(bed.ctx, dy, saved, scales_of(rows, rows));
  Balance* const layer[] = {&moe.balance()};
  const LayerHealth health = Balance::end_step(bed.ctx, layer, BiasUpdate::kApply)[0];
  if (device != Device::kMeta) ENSURE(health.max_over_mean == 1, "the test's routing is not balanced");
  return {bed.meter.total_flops(), bed.meter[WorkKind::kWire].bytes, bed.meter[WorkKind::kRow].bytes,
          bed.stash.peak_bytes(), bed.work.peak_bytes()};
}

}  // namespace

TEST_CASE("moe: the dry run counts the FLOPs, bytes and memory of a balanced run", "[moe]") {
  ModelConfig config = with_losses(small(kPlain));
  config.recompute = GENERATE(Recompute::kNone, Recompute::kSelective, Recompute::kFull);
  config.moe.use_selection_bias = true;
  const DType dtype = GENERATE(DType::kF32, DType::kBF16);
  const int ranks = GENERATE(1, 2);
  INFO("recompute " << static_cast<int>(config.recompute) << " " << name_of(dtype) << " ranks " << ranks);
  std::vector<Usage> real(static_cast<std::size_t>(ranks));
  test::run_ranks(ranks, [&](Communicator& world) {
    real[static_cast<std::size_t>(world.rank())] = usage_of(world, config, dtype, Device::kCpu);
  });
  for (int r = 0; r < ranks; ++r) {
    MetaCommunicator meta(r, ranks);
    const Usage dry = usage_of(meta, config, dtype, Device::kMeta), want = real[static_cast<std::size_t>(r)];
    CHECK(dry.flops == want.flops);
    CHECK(dry.wire == want.wire);
    CHECK(dry.traffic == want.traffic);
    CHECK(dry.stash == want.stash);
    CHECK(dry.work == want.work);
  }
}

TEST_CASE("moe: weights have global names and the initial deviation of their place", "[moe]") {
  ModelConfig config = small({.num_experts = 4, .top_k = 1});
  config.init_std = 0.02, config.num_layers = 8;
  MetaCommunicator world(1, 2);
  TestBed bed(world, DType::kBF16, {.dp = 2, .ep = 2}, Device::kMeta);
  Moe moe(bed.store, config, 7);
  std::vector<std::string> names;
  for (const Param& param : bed.store.params()) {
    names.push_back(param.spec.name);
    const bool down = param.spec.name.ends_with(".down");
    CHECK(param.spec.init_std == Approx(down ? 0.02 / 4 : 0.02));
    CHECK(param.spec.keep_f32 == param.spec.name.ends_with("router"));
    CHECK(param.spec.expert == (param.spec.name.find("experts") != std::string::npos));
  }
  const std::string moe_name = "layers.7.moe.", experts = moe_name + "experts.";
  CHECK(names == std::vector<std::string>{moe_name + "router", experts + "2.gate", experts + "2.up",
                                          experts + "3.gate", experts + "3.up", experts + "2.down",
                                          experts + "3.down", moe_name + "shared.gate",
                                          moe_name + "shared.up", moe_name + "shared.down"});
}

}  // namespace jevons
