// The MoE layer against a plain reference, and its gradients, on one rank and on two.
#include "trainer/model/moe.h"

#include "parallel/meta/meta_communicator.h"
#include "tests/model/branch_check.h"
#include "tests/model/moe_reference.h"
#include "tests/support/ranks.h"

namespace jevons::test {
namespace {

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
  const std::int64_t chunks = GENERATE(1, 2, 5, 20);  // of 12 tokens
  for (ModelConfig config : variants()) {
    if (config.moe.capacity_factor > 0) continue;
    config.moe.dispatch_chunks = chunks;
    MetaCommunicator world(0, 1);
    TestBed bed(world);
    Moe moe(bed.store, config, 1);
    bed.place_weights();
    const Tensor x = bed.random({3 * kSeq, kHidden}, "x");
    Moe::Saved saved;
    const Tensor y = run_forward(moe, bed.ctx, x, {}, saved);
    const Values want = reference(bed.store, saved.routing.out, x, config.moe.num_shared_experts > 0);
    for (std::int64_t i = 0; i < y.numel(); ++i) {
      CHECK(element(y, i) == Approx(want[static_cast<std::size_t>(i)]).epsilon(1e-11).margin(1e-12));
    }
  }
}

TEST_CASE("moe: gradients of the input and of every weight, with all balance losses", "[moe]") {
  const std::size_t variant = GENERATE(0u, 1u, 2u, 3u, 4u);
  const Recompute recompute = GENERATE(Recompute::kNone, Recompute::kSelective, Recompute::kFull);
  ModelConfig config = variants()[variant];
  config.moe.dispatch_chunks = GENERATE(1, 2, 5);  // of 12 tokens
  INFO("variant " << variant << " recompute " << static_cast<int>(recompute) << " chunks "
                  << config.moe.dispatch_chunks);
  MetaCommunicator world(0, 1);
  TestBed bed(world);
  Moe moe(bed.store, config, 1);
  bed.place_weights();
  if (config.moe.use_selection_bias) fill_normal(moe.selection_bias(), "bias", 0.1);
  const std::int64_t rows = 3 * kSeq;
  const Tensor x = bed.random({rows, kHidden}, "x"), dy = projection_of(bed, x.shape);
  Moe::Saved saved;
  AuxLosses aux;
  GradProblem problem;
  problem.inputs = {x};
  problem.loss = [&](const Context& ctx) {
    const double loss = dot(run_forward(moe, ctx, x, {}, saved, recompute), dy);
    Routing routing;
    routing.append(saved.routing);
    aux = aux_losses(routing, config.moe.router, rows);
    return loss + aux.total(config.moe);
  };
  problem.backward = [&](const Context& ctx) {
    std::int64_t dropped = 0, received = 0;
    for (const Moe::Chunk& chunk : saved.chunks) {
      received += chunk.plan.rows;
      if (chunk.plan.dropped.defined()) dropped += *chunk.plan.dropped.ptr<std::int64_t>();
    }
    REQUIRE(std::ssize(saved.chunks) == config.moe.dispatch_chunks);
    REQUIRE((dropped > 0) == (config.moe.capacity_factor > 0));
    const Tensor dx =
        run_backward(moe, ctx, x, dy, saved, recompute, Halves::kTogether, scales_of(rows, rows));
    Balance* const layer[] = {&moe.balance()};
    const LayerHealth health = Balance::end_step(ctx, layer, BiasUpdate::kSkip)[0];
    CHECK(health.micro_batch_balance == Approx(aux.micro_batch).epsilon(1e-12));
    CHECK(health.sequence_balance == Approx(aux.sequence).epsilon(1e-12));
    CHECK(health.global_balance == Approx(aux.global).epsilon(1e-12));
    CHECK(health.z_loss == Approx(aux.z).epsilon(1e-12));
    CHECK(health.dropped_slots == dropped);
    CHECK(health.max_rows == received);
    return std::vector<Tensor>{dx};
  };
  check_gradients(bed, problem, {.tolerance = 2e-7});
}

TEST_CASE("moe: fewer than one chunk is refused", "[moe]") {
  ModelConfig config = small(kPlain);
  config.moe.dispatch_chunks = 0;
  MetaCommunicator world(0, 1);
  TestBed bed(world);
  CHECK_THROWS_WITH(Moe(bed.store, config, 1), Catch::Matchers::ContainsSubstring("0 chunks"));
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

TEST_CASE("moe: gradients over two ranks, with all balance losses", "[moe][ranks]") {
  const GridPoint point =
      GENERATE(GridPoint{"dp 2, ep 2", {.dp = 2, .ep = 2}}, GridPoint{"tp 2, ep 2", {.tp = 2, .ep = 2}});
  ModelConfig config = with_losses(small(kPlain));
  config.moe.use_selection_bias = true;
  config.moe.dispatch_chunks = GENERATE(1, 5);  // of 12 tokens
  const std::int64_t held = 3 * kSeq / 2 * 2,
                     rows = 2 * held;  // per rank; tp cuts no sequence evenly in half
  const std::int64_t micro_batch = point.layout.tp == 2 ? rows : held;
  INFO(point.name);
  run_ranks(2, [&](Communicator& world) {
    TestBed bed(world, DType::kF64, point.layout);
    Moe moe(bed.store, config, 1);
    bed.place_weights();
    const std::int64_t first = world.rank() * held;
    const Tensor x = bed.random({rows, kHidden}, "x").slice(first, first + held);
    const Tensor dy = bed.random({rows, kHidden}, "dy").slice(first, first + held);
    Moe::Saved saved;
    const auto forward = [&] {
      reset_and_poison(bed.stash), reset_and_poison(bed.work);
      saved = {};
      double loss = dot(run_forward(moe, bed.ctx, x, {}, saved), dy);
      world.all_reduce({&loss, {1}, DType::kF64, Device::kCpu}).wait();
      Routing mine;
      mine.append(saved.routing);
      const Routing all{gathered(world, mine.logits), gathered(world, mine.scores),
                        gathered(world, mine.indices)};
      return loss + aux_losses(all, config.moe.router, micro_batch).total(config.moe);
    };
    forward();
    for (ParamGroup& group : bed.store.groups()) {
      for (double& g : group.grads.span<double>()) g = 0.75;
    }
    const Values dx = to_vector(backward(moe, bed.ctx, dy, saved, scales_of(rows, micro_batch)));
    RankGradientCheck check(world, bed, forward);
    check.check_own("x", x, dx);
    for (ParamId id = 0; id < bed.store.params().size(); ++id) {
      Values gradient = to_vector(bed.store.grad(id));
      for (double& g : gradient) g -= 0.75;
      check.check_weight(id, gradient);
    }
  });
}

}  // namespace jevons::test
