// The optimizers on many layouts: from the same gradients the same bits. Gradients are put in place, not
// computed, since those of a model round as the layout has it.
#include "trainer/optim/optimizer.h"

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "kernels/elementwise.h"
#include "kernels/gemm.h"
#include "parallel/bucket_reducer.h"
#include "parallel/meta/meta_communicator.h"
#include "tests/support/compare.h"
#include "tests/support/ranks.h"
#include "tests/support/tiny_model.h"
#include "tests/trainer/training_run.h"
#include "trainer/optim/newton_schulz.h"
#include "trainer/step/dry_run.h"

namespace jevons::test {
namespace {

constexpr int kSteps = 3;
constexpr std::uint64_t kSeed = 4;

struct Setting {
  Layout layout;
  int zero_stage = 1;
  std::int64_t bucket_bytes = kOneBucket;
  std::string to_string() const {
    return fmt::format("{}, zero {}, buckets of {}", layout.to_string(), zero_stage, bucket_bytes);
  }
};

double gradient(const Param& param, std::int64_t index, int step) {
  return 0.1 * RandomStream(static_cast<std::uint64_t>(step), param.spec.name)
                   .normal(static_cast<std::uint64_t>(index));
}

// f(bed) on a rank after some steps of `model`'s weights.
template <class F>
auto after_steps(Communicator& world, const Setting& setting, const ModelConfig& model, DType compute,
                 const OptimConfig& optim, F f) {
  TestBed bed(world, compute, setting.layout, Device::kCpu, setting.bucket_bytes);
  const Model layers(bed.store, model);
  bed.place_weights();
  BucketReducer reducer(bed.store, setting.zero_stage);
  Optimizer optimizer(bed.store, reducer, optim, kSeed);
  optimizer.adopt_weights(bed.ctx);
  for (int step = 1; step <= kSteps; ++step) {
    for (ParamId id = 0; id < bed.store.params().size(); ++id) {
      const Param& param = bed.store.params()[id];
      const Tensor grad = bed.store.grad(id);
      for_each_element(param, [&](std::int64_t local, std::int64_t global) {
        grad.ptr<float>()[local] = static_cast<float>(gradient(param, global, step));
      });
    }
    optimizer.step(bed.ctx, {.lr = 0.01, .grad_scale = 0.5, .step = step});
    reducer.zero_others(bed.ctx);
    reducer.gather_weights(bed.ctx);
    bed.store.await_weights();
    for (const ParamGroup& group : bed.store.groups())
      ENSURE(count_nonfinite(bed.ctx, group.grads) == 0 &&
                 to_vector(group.grads) == std::vector<double>(static_cast<std::size_t>(group.numel)),
             "gradients are left");
  }
  return f(bed);
}

// Every process computes them for itself.
NamedValues weights_of_one(const ModelConfig& model, DType compute, const OptimConfig& optim) {
  MetaCommunicator alone(0, 1);
  return after_steps(alone, {}, model, compute, optim, [](TestBed& bed) { return weights_of(bed.store); });
}

void check_layouts(const ModelConfig& model, DType compute, const OptimConfig& optim) {
  const NamedValues want = weights_of_one(model, compute, optim);
  const std::vector<Setting> settings = {{{}, 0},
                                         {{.dp = 3}, 1, 1},
                                         {{.tp = 2}, 0},
                                         {{.dp = 2, .tp = 2}, 1, 1},
                                         {{.dp = 4, .ep = 2}},
                                         {{.dp = 2, .tp = 4, .ep = 4}}};
  for (const Setting& setting : settings) {
    if (model.moe.router.num_experts % setting.layout.ep != 0) continue;
    INFO(setting.to_string());
    const auto check = [&](TestBed& bed) {
      for (ParamId id = 0; id < bed.store.params().size(); ++id) {
        const Param& param = bed.store.params()[id];
        const Tensor weight = bed.store.weight(id);
        const std::vector<double>& global_values = want.at(param.spec.name);
        for_each_element(param, [&](std::int64_t local, std::int64_t global) {
          ENSURE(element(weight, local) == global_values[static_cast<std::size_t>(global)],
                 "{}[{}] = {}, not {}", param.spec.name, global, element(weight, local),
                 global_values[static_cast<std::size_t>(global)]);
        });
      }
      return 0;
    };
    CHECK_NOTHROW(run_ranks(setting.layout.world(), [&](Communicator& world) {
      return after_steps(world, setting, model, compute, optim, check);
    }));
  }
}

OptimConfig muon() {
  OptimConfig optim;
  optim.kind = OptimizerKind::kMuon;
  return optim;
}

}  // namespace

TEST_CASE("Muon gives the same bits on every layout", "[muon][ranks]") {
  if (!gemm_backend(DType::kF32).row_invariant) return;
  check_layouts(tiny_moe(), DType::kF32, muon());
  ModelConfig latent = with_latent(tiny_moe(), 5);
  OptimConfig optim = muon();
  optim.muon.iterations = NewtonSchulz::kEightAndTwo;
  optim.moments = MomentKind::kBF16Stochastic;
  check_layouts(latent, DType::kF32, optim);
  if (gemm_backend(DType::kBF16).row_invariant) check_layouts(tiny_moe(), DType::kBF16, muon());
}

TEST_CASE("AdamW with moments in bf16 gives the same bits on every layout", "[optimizer][ranks]") {
  OptimConfig optim;
  optim.moments = MomentKind::kBF16;
  check_layouts(tiny_moe(), DType::kBF16, optim);
  optim.moments = MomentKind::kBF16Stochastic;
  optim.beta2 = 0.999;
  check_layouts(with_latent(tiny_moe(), 0), DType::kF32, optim);
}

// In double, from the definition, for a matrix and for a head of latent attention; the rest goes by AdamW.
TEST_CASE("Muon moves a matrix by its orthogonalised momentum and leaves the rest to AdamW", "[muon]") {
  const ModelConfig model = with_latent(tiny_moe(), 5);
  OptimConfig optim = muon();
  optim.weight_decay = 0.3;
  const NamedValues got = weights_of_one(model, DType::kF32, optim);
  OptimConfig adamw = optim;
  adamw.kind = OptimizerKind::kAdamW;
  const NamedValues by_adamw = weights_of_one(model, DType::kF32, adamw);
  MetaCommunicator alone(0, 1);
  TestBed bed(alone, DType::kF32);
  const Model layers(bed.store, model);
  bed.place_weights();
  Arena work(Device::kCpu, "double");
  const Context ctx{.compute = DType::kF64, .stash = &work, .work = &work};
  for (ParamId id = 0; id < bed.store.params().size(); ++id) {
    const Param& param = bed.store.params()[id];
    const ParamSpec& spec = param.spec;
    INFO(spec.name);
    if (spec.role != ParamRole::kMatrix || spec.keep_f32) {
      CHECK(got.at(spec.name) == by_adamw.at(spec.name));
      continue;
    }
    const std::int64_t cols = spec.shape[1];
    std::vector<double> w = to_vector(bed.store.weight(id)), m(w.size());
    const std::vector<std::int64_t> heights =
        spec.row_blocks.empty() ? std::vector{spec.shape[0]} : spec.row_blocks;
    for (int step = 1; step <= kSteps; ++step) {
      std::size_t at = 0;
      for (std::size_t block = 0; at < w.size(); ++block) {
        const std::int64_t rows = heights[block % heights.size()];
        const Tensor u = work.alloc({rows, cols}, DType::kF64);
        for (std::int64_t i = 0; i < u.numel(); ++i) {
          const std::size_t place = at + static_cast<std::size_t>(i);
          const double g = 0.5 * gradient(param, static_cast<std::int64_t>(place), step);
          m[place] = 0.95 * m[place] + g;
          u.ptr<double>()[i] = g + 0.95 * m[place];
        }
        orthogonalise(ctx, NewtonSchulz::kFive, 0.2 * std::sqrt(static_cast<double>(std::max(rows, cols))),
                      u);
        for (std::int64_t i = 0; i < u.numel(); ++i) {
          double& weight = w[at + static_cast<std::size_t>(i)];
          weight = (1 - 0.01 * 0.3) * weight - 0.01 * u.ptr<double>()[i];
        }
        at += static_cast<std::size_t>(u.numel());
        work.reset();
      }
    }
    CHECK_NOTHROW(expect_close(spec.name, got.at(spec.name), w, 1e-3));
  }
}

TEST_CASE("the dry run counts Muon's products and the memory of every kind of moments", "[muon][memory]") {
  const auto plan = [](const std::vector<std::string>& overrides, int world = 1) {
    const RunConfig config =
        parse_run_config(tiny_yaml("corpus", "run"), "test.yaml", overrides, {.world = world});
    return dry_run(config, world);
  };
  const DryRun adamw = plan({}), narrow = plan({"optimizer.moments=bf16"}),
               muon = plan({"optimizer.kind=muon"}),
               ten = plan({"optimizer.kind=muon", "optimizer.muon.iterations=eight_and_two"});
  const RunConfig config = parse_run_config(tiny_yaml("corpus", "run"), "test.yaml", {}, {.world = 1});
  MetaCommunicator alone(0, 1);
  TestBed bed(alone, DType::kF32, {}, Device::kMeta);
  const Model layers(bed.store, config.model);
  std::size_t all = 0, matrices = 0;
  double flops = 0;
  for (const Param& param : bed.store.params()) {
    const auto numel = static_cast<std::size_t>(param.spec.shape.numel());
    all += numel;
    if (param.spec.role != ParamRole::kMatrix || param.spec.keep_f32) continue;
    matrices += numel;
    const auto k = static_cast<double>(std::min(param.spec.shape[0], param.spec.shape[1])),
               l = static_cast<double>(std::max(param.spec.shape[0], param.spec.shape[1]));
    flops += 4 * k * k * l + 2 * k * k * k;
  }
  CHECK(adamw.memory.optimizer == 2 * 4 * all);  // the master weights of fp32 are the store's
  CHECK(narrow.memory.optimizer == 2 * 2 * all);
  CHECK(muon.memory.optimizer == 2 * 4 * all - 4 * matrices);
  const auto gemm = [](const DryRun& run) { return run.work.totals()[WorkKind::kGemm].flops; };
  CHECK(gemm(muon) - gemm(adamw) == Approx(5 * flops).epsilon(1e-12));
  CHECK(gemm(ten) - gemm(adamw) == Approx(10 * flops).epsilon(1e-12));
  // Half of the work and of the state is another rank's, but for what it has of experts that both have.
  const DryRun two = plan({"optimizer.kind=muon", "parallel.ep=2"}, 2);
  CHECK(two.memory.optimizer < 0.6 * static_cast<double>(muon.memory.optimizer));
  const DryRun two_adamw = plan({"parallel.ep=2"}, 2);
  CHECK(gemm(two) - gemm(two_adamw) < 0.7 * 5 * flops);
}

}  // namespace jevons::test
