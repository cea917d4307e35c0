// The MoE layer on 1, 2 and 4 expert ranks, recomputed, and dry.
#include <fmt/core.h>

#include <algorithm>
#include <deque>
#include <map>
#include <string>

#include "kernels/gemm.h"
#include "parallel/meta/meta_communicator.h"
#include "tests/model/branch_check.h"
#include "tests/model/moe_reference.h"
#include "tests/support/catch.h"
#include "tests/support/ranks.h"
#include "trainer/model/moe.h"

namespace jevons::test {
namespace {

struct Pass {
  Values y, dx;
  std::map<std::string, Values> expert_gradients;
  auto fields() { return std::tie(y, dx, expert_gradients); }
};

// Forward and backward of all rows over `ep` ranks, each with its own part of them.
Pass pass_over_ranks(const ModelConfig& config, DType dtype, int ep, std::int64_t rows) {
  const std::vector<Pass> parts = run_ranks(ep, [&](Communicator& world) {
    TestBed bed(world, dtype, {.dp = ep, .ep = ep});
    Moe moe(bed.store, config, 1);
    bed.place_weights();
    const std::int64_t held = rows / ep, first = world.rank() * held, cols = config.hidden_size;
    const Tensor x = bed.random({rows, cols}, "x").slice(first, first + held);
    const Tensor dy = bed.random({rows, cols}, "dy").slice(first, first + held);
    Moe::Saved saved;
    Pass mine;
    mine.y = to_vector(run_forward(moe, bed.ctx, x, {}, saved));
    mine.dx = to_vector(backward(moe, bed.ctx, dy, saved, scales_of(rows, held)));
    for (ParamId id = 0; id < bed.store.params().size(); ++id) {
      const ParamSpec& spec = bed.store.params()[id].spec;
      if (spec.expert) mine.expert_gradients[spec.name] = to_vector(bed.store.grad(id));
    }
    return mine;
  });
  Pass pass;
  for (const Pass& part : parts) {
    pass.y.insert(pass.y.end(), part.y.begin(), part.y.end());
    pass.dx.insert(pass.dx.end(), part.dx.begin(), part.dx.end());
    pass.expert_gradients.insert(part.expert_gradients.begin(), part.expert_gradients.end());
  }
  return pass;
}

ModelConfig wider(std::int64_t shared) {
  ModelConfig config = small({.num_experts = 8, .top_k = 3}, shared);
  config.hidden_size = 40, config.moe.expert_hidden_size = 24, config.moe.z_loss = 0.01, config.seq_len = 2;
  return config;
}

}  // namespace

TEST_CASE("moe: output, input gradient and expert gradients have the same bits on 1, 2 and 4 expert ranks",
          "[moe][ranks]") {
  const DType dtype = GENERATE(DType::kF64, DType::kF32, DType::kBF16);
  const std::int64_t rows = GENERATE(8, 64);  // 2 tokens per rank: experts without tokens
  if (!gemm_backend(dtype).row_invariant || !gemm_backend(DType::kF32).row_invariant) {
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

TEST_CASE(
    "moe: chunks change no bit of output and input gradient, and expert gradients by their order of sums",
    "[moe][ranks]") {
  const DType dtype = GENERATE(DType::kF64, DType::kF32, DType::kBF16);
  const std::int64_t rows = GENERATE(8, 64);  // 2 tokens per rank: chunks without tokens
  if (!gemm_backend(dtype).row_invariant || !gemm_backend(DType::kF32).row_invariant) {
    WARN("skipped for " << name_of(dtype) << ": this CPU's products are not row-invariant");
    return;
  }
  const bool reduce = GENERATE(false, true);
  // Weight gradients are sums over rows in the accumulator dtype; of bf16 rows the products are exact in it.
  const double bound = dtype == DType::kF64 ? 1e-13 : 1e-5;
  for (int ep : {1, 4}) {
    ModelConfig config = wider(1);
    config.moe.reduce_at_expert = reduce;
    const Pass one = pass_over_ranks(config, dtype, ep, rows);
    for (std::int64_t chunks : {2, 3}) {
      config.moe.dispatch_chunks = chunks;
      const Pass many = pass_over_ranks(config, dtype, ep, rows);
      INFO("ep " << ep << " " << name_of(dtype) << " chunks " << chunks << " reduce " << reduce);
      CHECK(many.y == one.y);
      CHECK(many.dx == one.dx);
      for (const auto& [name, gradient] : one.expert_gradients) {
        double largest = 0, worst = 0;
        for (std::size_t i = 0; i < gradient.size(); ++i) {
          largest = std::max(largest, std::abs(gradient[i]));
          worst = std::max(worst, std::abs(many.expert_gradients.at(name)[i] - gradient[i]));
        }
        INFO(name);
        CHECK(worst <= bound * largest);
      }
    }
  }
}

TEST_CASE("moe: reduce_at_expert changes no more than the last bits", "[moe][ranks]") {
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
  config.moe.dispatch_chunks = GENERATE(1, 3);
  const auto run = [&](Recompute recompute, bool disturb_router) {
    MetaCommunicator world(0, 1);
    TestBed bed(world, DType::kF32);
    Moe moe(bed.store, config, 1);
    bed.place_weights();
    const Tensor x = bed.random({rows, config.hidden_size}, "x"), dy = bed.random(x.shape, "dy");
    Moe::Saved saved;
    run_forward(moe, bed.ctx, x, {}, saved, recompute);
    Result result;
    result.kept = bed.stash.used_bytes();
    reset_and_poison(bed.work);
    const Tensor router = bed.store.weight(0);
    const Values before = to_vector(router);
    if (disturb_router) fill_normal(router, "another router");
    if (recompute != Recompute::kNone) moe.restore(scratch(bed.ctx), x, saved);
    for (std::size_t i = 0; i < before.size(); ++i) router.ptr<float>()[i] = static_cast<float>(before[i]);
    result.dx = to_vector(backward(moe, bed.ctx, dy, saved, scales_of(rows, rows)));
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
  bed.mesh.set_listener(&bed.meter);
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
  run_forward(moe, bed.ctx, x, {}, saved, config.recompute);
  run_backward(moe, bed.ctx, x, dy, saved, config.recompute, Halves::kTogether, scales_of(rows, rows));
  Balance* const layer[] = {&moe.balance()};
  const LayerHealth health = Balance::end_step(bed.ctx, layer, BiasUpdate::kApply)[0];
  if (device != Device::kMeta) ENSURE(health.max_over_mean == 1, "the test's routing is not balanced");
  return {bed.meter.total_flops(), bed.meter[WorkKind::kWire].bytes, bed.meter[WorkKind::kRow].bytes,
          bed.stash.peak_bytes(), bed.work.peak_bytes()};
}

}  // namespace

TEST_CASE("moe: the dry run counts the FLOPs, bytes and memory of a balanced run", "[moe][ranks]") {
  ModelConfig config = with_losses(small(kPlain));
  config.recompute = GENERATE(Recompute::kNone, Recompute::kSelective, Recompute::kFull);
  config.moe.use_selection_bias = true;
  const DType dtype = GENERATE(DType::kF32, DType::kBF16);
  const int ranks = GENERATE(1, 2);
  config.moe.dispatch_chunks = GENERATE(1, 2);
  INFO("recompute " << static_cast<int>(config.recompute) << " " << name_of(dtype) << " ranks " << ranks
                    << " chunks " << config.moe.dispatch_chunks);
  const std::vector<Usage> real =
      run_ranks(ranks, [&](Communicator& world) { return usage_of(world, config, dtype, Device::kCpu); });
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

TEST_CASE("moe: arenas hold at most a tenth more than their peak while the rows of two ranks vary",
          "[moe][ranks]") {
  constexpr std::int64_t kRows = 512, kLayers = 6, kSteps = 24;
  struct Held {
    double most = 0;  // over the peak
    std::map<std::int64_t, int> rows_seen;
    auto fields() { return std::tie(most, rows_seen); }
  };
  const auto held = run_ranks(2, [&](Communicator& world) {
    Held mine;
    TestBed bed(world, DType::kF32, {.dp = 2, .ep = 2});
    std::deque<Moe> layers;
    for (int i = 0; i < kLayers; ++i) layers.emplace_back(bed.store, wider(0), i + 1);
    bed.place_weights();
    for (std::int64_t step = 0; step < kSteps; ++step) {
      bed.stash.reset();
      bed.work.reset();
      const std::string name = fmt::format("x {} of rank {}", step, world.rank());
      const Tensor x = bed.stash.alloc({kRows, 40}, DType::kF32);
      fill_normal(x, name);
      std::deque<Moe::Saved> saved(kLayers);
      for (std::size_t i = 0; i < kLayers; ++i) run_forward(layers[i], bed.ctx, x, {}, saved[i]);
      for (std::size_t i = kLayers; i-- > 0;)
        backward(layers[i], bed.ctx, x, saved[i], scales_of(2 * kRows, kRows));
      for (const Moe::Saved& s : saved) ++mine.rows_seen[s.chunks.front().plan.rows];
      for (const Arena* arena : {&bed.stash, &bed.work}) {
        const auto peak = static_cast<double>(arena->peak_bytes());
        mine.most = std::max(mine.most, static_cast<double>(arena->held_bytes()) / peak);
      }
    }
    return mine;
  });
  for (const Held& rank : held) {
    CHECK(rank.rows_seen.size() > 20);
    CHECK(rank.most <= 1.1);
  }
}

}  // namespace jevons::test
