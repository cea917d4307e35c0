// The router layer: precision of its logits, its gradient.
#include "trainer/model/router.h"

#include "kernels/core/error.h"
#include "kernels/moe/balance.h"
#include "parallel/meta/meta_communicator.h"
#include "tests/model/grad_check.h"

namespace jevons {
namespace {

using test::TestBed;

ModelConfig config_of(RouterRule rule, std::int64_t hidden_size) {
  ModelConfig config;
  config.num_layers = 2, config.hidden_size = hidden_size, config.init_std = 0.5;
  config.moe.router = rule;
  return config;
}

}  // namespace

TEST_CASE("logits are computed in fp32 from bf16 activations", "[moe]") {
  MetaCommunicator world(0, 1);
  TestBed bed(world, DType::kBF16);
  const std::int64_t rows = 9, hidden = 48, experts = 8;
  Router router(bed.store, config_of({.num_experts = experts, .top_k = 2}, hidden), "router");
  bed.place_weights();
  const Tensor x = bed.random({rows, hidden}, "x");
  Router::Saved saved;
  router.forward(bed.ctx, x, {}, saved);
  const Tensor w = bed.store.weight(0);
  REQUIRE(w.dtype == DType::kF32);
  REQUIRE(saved.logits.dtype == DType::kF32);
  for (std::int64_t t = 0; t < rows; ++t) {
    for (std::int64_t e = 0; e < experts; ++e) {
      double want = 0;
      for (std::int64_t d = 0; d < hidden; ++d) {
        want += test::element(x, t * hidden + d) * test::element(w, e * hidden + d);
      }
      CHECK(test::element(saved.logits, t * experts + e) == Approx(want).epsilon(1e-5).margin(1e-5));
    }
  }
  CHECK(bed.work.used_bytes() == 0);
}

namespace {

double z_loss(const Context& ctx, double scale, Tensor logits) {
  double sum = 0;
  router_z_loss(ctx, logits, scale, {&sum, {1}, DType::kF64, Device::kCpu});
  return sum;
}

}  // namespace

TEST_CASE("the router's gradient through weights, scores and z-loss", "[moe]") {
  const ScoreFunction score =
      GENERATE(ScoreFunction::kSoftmax, ScoreFunction::kSigmoid, ScoreFunction::kSqrtSoftplus);
  const bool before = GENERATE(false, true);
  MetaCommunicator world(0, 1);
  TestBed bed(world);
  const std::int64_t rows = 5, hidden = 7, experts = 6, top_k = 2;
  const RouterRule rule{.num_experts = experts, .top_k = top_k, .score = score, .top_k_before_score = before};
  Router router(bed.store, config_of(rule, hidden), "router");
  bed.place_weights();
  const Tensor x = bed.random({rows, hidden}, "x"), bias = bed.random({experts}, "bias", 0.3);
  const Tensor d_weights = bed.random({rows, top_k}, "dw"), d_scores = bed.random({rows, experts}, "ds");
  const double z_scale = 0.4;
  Router::Saved saved;
  test::GradProblem problem;
  problem.inputs = {x};
  problem.loss = [&](const Context& ctx) {
    router.forward(ctx, x, bias, saved);
    return test::dot(saved.out.weights, d_weights) + test::dot(saved.out.scores, d_scores) +
           z_loss(ctx, z_scale, saved.logits);
  };
  problem.backward = [&](const Context& ctx) {
    const Tensor overwritten = bed.random({rows, experts}, "ds");
    return std::vector<Tensor>{
        router.backward(ctx, x, {.weights = d_weights, .scores = overwritten, .z_scale = z_scale}, saved)};
  };
  test::check_gradients(bed, problem);
}

}  // namespace jevons
