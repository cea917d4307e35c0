// Routers by their published rules, and one that is forced.
#include <functional>
#include <set>
#include <utility>

#include "kernels/core/rng.h"
#include "tests/kernels/router_bed.h"

namespace jevons {
namespace {

using test::KernelBench;
using test::kInf;
using test::make_output;
using test::Row;
using test::row_of;
using test::softmax;

// DeepSeek-V2 and V3 by their published rules, written here once more for one token each, in the order of
// their operations: V2 masks dropped groups with 0, which no softmax score is below; V3's biased scores may
// all be negative, so that only -inf keeps a dropped group out.
TEST_CASE("the routers of DeepSeek-V2 and V3, with biased scores of any sign", "[routing]") {
  KernelBench bench(2);
  const bool v3 = GENERATE(false, true);
  const double shift = GENERATE(0.0, -0.4, -3.0);
  if (!v3 && shift != 0) return;
  constexpr std::int64_t kExperts = 16, kGroups = 4, kKept = 2, kTop = 3, kRows = 200;
  const RouterRule rule{.num_experts = kExperts,
                        .top_k = kTop,
                        .score = v3 ? ScoreFunction::kSigmoid : ScoreFunction::kSoftmax,
                        .renormalize = v3,
                        .scaling_factor = v3 ? 2.5 : 16.0,
                        .groups = kGroups,
                        .groups_kept = kKept,
                        .group_score = v3 ? GroupScore::kSumOfTop2 : GroupScore::kMax};
  const Tensor logits = bench.random({kRows, kExperts}, DType::kF64);
  const RandomStream random(2, "bias");
  const Tensor bias = v3 ? bench.filled({kExperts}, DType::kF64,
                                        [&](std::int64_t i) {
                                          return shift + 0.3 * random.normal(static_cast<std::uint64_t>(i));
                                        })
                         : Tensor{};
  const RouterOutput out = make_output(bench, rule, kRows, DType::kF64);
  bench.run(router_forward, rule, logits, bias, out);
  std::int64_t all_negative = 0;
  for (std::int64_t t = 0; t < kRows; ++t) {
    const Row z = row_of(logits, t);
    Row s = softmax(z);
    for (std::size_t i = 0; v3 && i < z.size(); ++i) s[i] = 1 / (1 + std::exp(-z[i]));
    Row c = s;
    for (std::size_t i = 0; v3 && i < c.size(); ++i) c[i] += bias.ptr<double>()[i];
    std::set<std::int64_t> kept;
    while (std::ssize(kept) < kKept) {
      std::int64_t best = -1;
      double best_score = -kInf;
      for (std::int64_t g = 0; g < kGroups; ++g) {
        Row in(c.begin() + 4 * g, c.begin() + 4 * g + 4);
        std::ranges::sort(in, std::greater{});
        const double score = v3 ? in[0] + in[1] : in[0];
        if (!kept.contains(g) && score > best_score) best = g, best_score = score;
      }
      kept.insert(best);
    }
    for (std::size_t i = 0; i < c.size(); ++i) {
      if (!kept.contains(static_cast<std::int64_t>(i) / 4)) c[i] = v3 ? -kInf : 0.0;
    }
    const double largest = *std::ranges::max_element(c);
    all_negative += largest < 0 ? 1 : 0;
    Row weights, chosen;
    double sum = 0;
    for (std::int64_t k = 0; k < kTop; ++k) {
      const auto best = std::ranges::max_element(c) - c.begin();
      chosen.push_back(static_cast<double>(best));
      weights.push_back(s[static_cast<std::size_t>(best)]), sum += weights.back();
      c[static_cast<std::size_t>(best)] = -kInf;
    }
    for (double& w : weights) w = v3 ? w / (sum + 1e-20) * 2.5 : w * 16;
    CHECK(row_of(out.indices, t) == chosen);
    CHECK(test::max_error(out.weights.slice(t, t + 1), weights) < 1e-12);
  }
  CHECK((all_negative > kRows / 2) == (shift == -3));
}

TEST_CASE("sqrt softplus: extreme logits give finite scores and gradients", "[routing]") {
  KernelBench bench;
  const DType dtype = GENERATE(DType::kF32, DType::kF64);
  const RouterRule rule{
      .num_experts = 8, .top_k = 8, .score = ScoreFunction::kSqrtSoftplus, .renormalize = false};
  const double z[] = {-1e4, -300, -90, -30, 0, 20, 90, 1e4};
  const Tensor logits = bench.filled({1, 8}, dtype, [&](std::int64_t i) { return z[i]; });
  const RouterOutput out = make_output(bench, rule, 1, dtype);
  bench.run(router_forward, rule, logits, {}, out);
  const Tensor ones = bench.filled({1, 8}, dtype, [](std::int64_t) { return 1; });
  const Tensor dlogits = bench.poisoned({1, 8}, dtype);
  bench.run(router_backward, rule, logits, out, {ones, {}, dlogits});
  for (std::int64_t k = 0; k < 8; ++k) {
    const double x = z[k], softplus = x > 0 ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x));
    const double s = std::sqrt(softplus), slope = s > 0 ? 1 / (1 + std::exp(-x)) / (2 * s) : 0;
    const auto at = static_cast<std::size_t>(k);
    // fp32's exp is 0 below 2^-125.
    CHECK(row_of(out.scores, 0)[at] == Approx(s).epsilon(dtype == DType::kF32 ? 1e-6 : 1e-12).margin(1e-18));
    CHECK(row_of(dlogits, 0)[at] == Approx(slope).epsilon(dtype == DType::kF32 ? 1e-6 : 1e-12).margin(1e-18));
  }
}

TEST_CASE("forced balance takes the experts in turn, far apart, with the scores as weights", "[routing]") {
  KernelBench bench(2);
  for (const auto& [experts, top_k] : {std::pair{8, 2}, {7, 3}, {6, 6}, {64, 5}}) {
    const RouterRule rule{
        .num_experts = experts, .top_k = top_k, .renormalize = false, .forced_balance = true};
    const std::int64_t rows = 3 * experts;
    const Tensor logits = bench.random({rows, experts}, DType::kF64);
    const RouterOutput out = make_output(bench, rule, rows, DType::kF64);
    bench.run(router_forward, rule, logits, {}, out);
    std::vector<std::int64_t> load(static_cast<std::size_t>(experts));
    for (std::int64_t t = 0; t < rows; ++t) {
      const Row chosen = row_of(out.indices, t), scores = softmax(row_of(logits, t)),
                weights = row_of(out.weights, t);
      CHECK(std::set<double>(chosen.begin(), chosen.end()).size() == chosen.size());
      for (std::size_t k = 0; k < chosen.size(); ++k) {
        ++load[static_cast<std::size_t>(chosen[k])];
        CHECK(weights[k] == Approx(scores[static_cast<std::size_t>(chosen[k])]));
      }
    }
    CHECK(load == std::vector<std::int64_t>(static_cast<std::size_t>(experts), 3 * top_k));
  }
}

}  // namespace
}  // namespace jevons
