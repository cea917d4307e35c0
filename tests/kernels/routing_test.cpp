// The router's kernels against plain references, every combination of rules.
#include "kernels/moe/routing.h"

#include <algorithm>
#include <numeric>
#include <set>

#include "kernels/core/error.h"
#include "kernels/moe/balance.h"
#include "tests/kernels/router_bed.h"

namespace jevons {
namespace {

using test::KernelBench;
using test::make_output;
using test::Row;
using test::row_of;
using test::softmax;

using test::kInf;

// What `op` adds to a sum of 0.
double sum_by(KernelBench& bench, void (*op)(const Context&, Tensor, double, Tensor), Tensor x,
              double scale) {
  const Tensor sum = bench.filled({1}, DType::kF64, [](std::int64_t) { return 0; });
  bench.run(op, x, scale, sum);
  return *sum.ptr<double>();
}

struct Reference {
  Row scores, weights;
  std::vector<std::int64_t> chosen;
};

// Experts of the groups that are dropped get choice score -inf.
void mask_groups(const RouterRule& rule, Row& choice) {
  const std::int64_t size = rule.num_experts / rule.groups;
  std::vector<std::pair<double, std::int64_t>>
      groups;  // (-score, index): sorts best first, ties to the lower
  for (std::int64_t g = 0; g < rule.groups; ++g) {
    Row in(choice.begin() + g * size, choice.begin() + (g + 1) * size);
    std::sort(in.rbegin(), in.rend());
    const bool two = rule.group_score == GroupScore::kSumOfTop2 && size > 1;
    groups.emplace_back(-(two ? in[0] + in[1] : in[0]), g);
  }
  std::sort(groups.begin(), groups.end());
  for (std::size_t i = static_cast<std::size_t>(rule.groups_kept); i < groups.size(); ++i) {
    std::fill_n(choice.begin() + groups[i].second * size, size, -kInf);
  }
}

Reference route(const RouterRule& rule, const Row& z, const Row& bias) {
  Reference out;
  if (rule.score == ScoreFunction::kSoftmax) out.scores = softmax(z);
  if (rule.score == ScoreFunction::kSigmoid) {
    for (double x : z) out.scores.push_back(1 / (1 + std::exp(-x)));
  }
  if (rule.score == ScoreFunction::kSqrtSoftplus) {
    for (double x : z) out.scores.push_back(std::sqrt(std::log1p(std::exp(x))));
  }
  Row choice = rule.top_k_before_score ? z : out.scores;
  for (std::size_t i = 0; i < bias.size(); ++i) choice[i] += bias[i];
  mask_groups(rule, choice);
  std::vector<std::int64_t> order(z.size());
  std::iota(order.begin(), order.end(), 0);
  const auto at = [](const Row& row, std::int64_t i) { return row[static_cast<std::size_t>(i)]; };
  std::stable_sort(order.begin(), order.end(),
                   [&](std::int64_t a, std::int64_t b) { return at(choice, a) > at(choice, b); });
  order.resize(static_cast<std::size_t>(rule.top_k));
  out.chosen = order;
  Row chosen_logits;
  for (std::int64_t i : order) {
    out.weights.push_back(at(out.scores, i));
    chosen_logits.push_back(at(z, i));
  }
  if (rule.top_k_before_score && rule.score == ScoreFunction::kSoftmax) out.weights = softmax(chosen_logits);
  const double sum = std::accumulate(out.weights.begin(), out.weights.end(), 1e-20);
  for (double& w : out.weights) w *= rule.scaling_factor / (rule.renormalize ? sum : 1);
  return out;
}

std::vector<RouterRule> all_rules() {
  std::vector<RouterRule> rules;
  for (ScoreFunction score :
       {ScoreFunction::kSoftmax, ScoreFunction::kSigmoid, ScoreFunction::kSqrtSoftplus}) {
    for (bool before : {false, true}) {
      for (bool renormalize : {false, true}) {
        for (GroupScore group_score : {GroupScore::kMax, GroupScore::kSumOfTop2}) {
          for (std::int64_t kept : {2, 4}) {
            rules.push_back({.num_experts = 12,
                             .top_k = 5,
                             .score = score,
                             .top_k_before_score = before,
                             .renormalize = renormalize,
                             .scaling_factor = 2.5,
                             .groups = 4,
                             .groups_kept = kept,
                             .group_score = group_score});
          }
        }
      }
    }
  }
  rules.push_back({.num_experts = 1, .top_k = 1});
  rules.push_back({.num_experts = 67, .top_k = 8});
  rules.push_back({.num_experts = 8, .top_k = 8, .groups = 8, .groups_kept = 8});
  rules.push_back({.num_experts = 64, .top_k = 3, .groups = 64, .groups_kept = 4});
  return rules;
}

std::string describe(const RouterRule& rule) {
  return fmt::format("E {} K {} {} before {} renormalize {} groups {}/{} {}", rule.num_experts, rule.top_k,
                     rule.score == ScoreFunction::kSoftmax   ? "softmax"
                     : rule.score == ScoreFunction::kSigmoid ? "sigmoid"
                                                             : "sqrt softplus",
                     rule.top_k_before_score, rule.renormalize, rule.groups_kept, rule.groups,
                     rule.group_score == GroupScore::kMax ? "max" : "top2");
}

}  // namespace

TEST_CASE("the router gives a plain reference's scores, choice and weights", "[routing]") {
  const DType dtype = GENERATE(DType::kF32, DType::kF64);
  const bool with_bias = GENERATE(false, true);
  for (const RouterRule& rule : all_rules()) {
    INFO(describe(rule) << " bias " << with_bias);
    KernelBench bench(2);
    const std::int64_t rows = GENERATE(0, 1, 37);
    const Tensor logits = bench.random({rows, rule.num_experts}, dtype);
    const Tensor bias = with_bias ? bench.random({rule.num_experts}, dtype, 0.3) : Tensor{};
    const RouterOutput out = make_output(bench, rule, rows, dtype);
    bench.run(router_forward, rule, logits, bias, out);
    for (std::int64_t t = 0; t < rows; ++t) {
      const Reference want = route(rule, row_of(logits, t), with_bias ? test::to_doubles(bias) : Row{});
      CHECK(test::max_error(out.scores.slice(t, t + 1), want.scores) < test::tolerance(dtype));
      CHECK(row_of(out.indices, t) == Row(want.chosen.begin(), want.chosen.end()));
      CHECK(test::max_error(out.weights.slice(t, t + 1), want.weights) < 4 * test::tolerance(dtype));
    }
  }
}

TEST_CASE("equal choice scores go to the lower expert and the lower group", "[routing]") {
  KernelBench bench;
  for (RouterRule rule : all_rules()) {
    if (rule.top_k > 5) continue;
    INFO(describe(rule));
    const Tensor logits = bench.filled({1, rule.num_experts}, DType::kF32, [](std::int64_t) { return 0.5; });
    const RouterOutput out = make_output(bench, rule, 1, DType::kF32);
    bench.run(router_forward, rule, logits, {}, out);
    for (std::int64_t k = 0; k < rule.top_k; ++k) CHECK(out.indices.ptr<std::int32_t>()[k] == k);
  }
}

TEST_CASE("NaN and infinite logits choose different, valid experts", "[routing]") {
  KernelBench bench;
  for (const RouterRule& rule : all_rules()) {
    INFO(describe(rule));
    const std::int64_t rows = 64;
    const Tensor logits = bench.random({rows, rule.num_experts}, DType::kF32);
    const double bad[] = {std::nan(""), kInf, -kInf, std::nan("")};
    for (std::int64_t i = 0; i < logits.numel(); ++i) {
      const std::int64_t row = i / rule.num_experts;
      if (i * 7919 % rows <= row) logits.ptr<float>()[i] = static_cast<float>(bad[i % 4]);
    }
    const RouterOutput out = make_output(bench, rule, rows, DType::kF32);
    bench.run(router_forward, rule, logits, {}, out);
    for (std::int64_t t = 0; t < rows; ++t) {
      const Row chosen = row_of(out.indices, t);
      const std::set<double> distinct(chosen.begin(), chosen.end());
      CHECK(distinct.size() == chosen.size());
      CHECK(*distinct.begin() >= 0);
      CHECK(*distinct.rbegin() < static_cast<double>(rule.num_experts));
    }
  }
}

TEST_CASE("a NaN logit is chosen after every number", "[routing]") {
  KernelBench bench;
  const RouterRule rule{.num_experts = 6, .top_k = 4, .score = ScoreFunction::kSigmoid};
  const Row z = {std::nan(""), -3, std::nan(""), -1, -2, -4};
  const Tensor logits =
      bench.filled({1, 6}, DType::kF32, [&](std::int64_t i) { return z[static_cast<std::size_t>(i)]; });
  const RouterOutput out = make_output(bench, rule, 1, DType::kF32);
  bench.run(router_forward, rule, logits, {}, out);
  CHECK(row_of(out.indices, 0) == Row{3, 4, 1, 5});
}

TEST_CASE("the selection bias changes the choice and not the weights", "[routing]") {
  KernelBench bench;
  const RouterRule rule{.num_experts = 4, .top_k = 1, .score = ScoreFunction::kSigmoid, .renormalize = false};
  const Tensor logits = bench.filled({1, 4}, DType::kF64, [](std::int64_t i) { return -0.1 * double(i); });
  const Tensor bias = bench.filled({4}, DType::kF64, [](std::int64_t i) { return i == 2 ? 1.0 : 0.0; });
  const RouterOutput out = make_output(bench, rule, 1, DType::kF64);
  bench.run(router_forward, rule, logits, bias, out);
  CHECK(out.indices.ptr<std::int32_t>()[0] == 2);
  CHECK(out.weights.ptr<double>()[0] == Approx(1 / (1 + std::exp(0.2))));
}

TEST_CASE("a row's routing does not depend on the other rows or on the number of threads", "[routing]") {
  const RouterRule rule{.num_experts = 96, .top_k = 4};
  KernelBench one(1), many(3);
  const Tensor logits = one.random({300, 96}, DType::kF32);
  const RouterOutput a = make_output(one, rule, 300, DType::kF32),
                     b = make_output(many, rule, 300, DType::kF32);
  const RouterOutput single = make_output(one, rule, 1, DType::kF32);
  one.run(router_forward, rule, logits, {}, a);
  many.run(router_forward, rule, logits, {}, b);
  one.run(router_forward, rule, logits.slice(217, 218), {}, single);
  CHECK(test::same_bits(a.weights, b.weights));
  CHECK(test::same_bits(a.scores, b.scores));
  CHECK(test::same_bits(a.weights.slice(217, 218), single.weights));
  CHECK(test::same_bits(a.indices.slice(217, 218), single.indices));
}

TEST_CASE("the router's gradient equals differences of weights and scores with the choice fixed",
          "[routing][slow]") {
  for (const RouterRule& rule : all_rules()) {
    INFO(describe(rule));
    KernelBench bench;
    const std::int64_t rows = 3;
    const Tensor logits = bench.random({rows, rule.num_experts}, DType::kF64);
    const Tensor bias = bench.random({rule.num_experts}, DType::kF64, 0.2);
    const Tensor d_weights = bench.random({rows, rule.top_k}, DType::kF64);
    const Tensor d_scores = bench.random({rows, rule.num_experts}, DType::kF64);
    const RouterOutput out = make_output(bench, rule, rows, DType::kF64);
    const Tensor dlogits = bench.poisoned(logits.shape, DType::kF64);
    bench.run(router_forward, rule, logits, bias, out);
    const Tensor chosen = bench.clone(out.indices);
    const auto loss = [&] {
      bench.run(router_forward, rule, logits, bias, out);
      REQUIRE(test::same_bits(out.indices, chosen));
      double sum = 0;
      for (std::int64_t i = 0; i < d_weights.numel(); ++i) {
        sum += d_weights.ptr<double>()[i] * out.weights.ptr<double>()[i];
      }
      for (std::int64_t i = 0; i < d_scores.numel(); ++i) {
        sum += d_scores.ptr<double>()[i] * out.scores.ptr<double>()[i];
      }
      return sum;
    };
    bench.run(router_backward, rule, logits, out, {d_weights, d_scores, dlogits});
    CHECK(test::gradient_error(logits, dlogits, loss) < 1e-8);

    test::fill(d_scores, [](std::int64_t) { return 0; });
    bench.run(router_forward, rule, logits, bias, out);  // the last difference left other scores behind
    bench.run(router_backward, rule, logits, out, {d_weights, {}, dlogits});
    CHECK(test::gradient_error(logits, dlogits, loss) < 1e-8);
  }
}

TEST_CASE("dlogits may be written over d_scores", "[routing]") {
  KernelBench bench;
  const RouterRule rule{.num_experts = 16, .top_k = 2};
  const Tensor logits = bench.random({5, 16}, DType::kF32);
  const RouterOutput out = make_output(bench, rule, 5, DType::kF32);
  bench.run(router_forward, rule, logits, {}, out);
  const Tensor d_weights = bench.random({5, 2}, DType::kF32), d_scores = bench.random({5, 16}, DType::kF32);
  const Tensor apart = bench.poisoned({5, 16}, DType::kF32);
  bench.run(router_backward, rule, logits, out, {d_weights, d_scores, apart});
  bench.run(router_backward, rule, logits, out, {d_weights, d_scores, d_scores});
  CHECK(test::same_bits(apart, d_scores));
}

TEST_CASE("score sums of long segments", "[routing]") {
  KernelBench bench(2);
  constexpr std::int64_t kExperts = 65, kLength = 1100, kFirst = 90, kRows = 1500;
  const Tensor scores = bench.filled({kRows, kExperts}, DType::kF64,
                                     [](std::int64_t i) { return 1.0 + static_cast<double>(i * 37 % 101); });
  const Tensor sums = bench.poisoned({3, kExperts}, DType::kF64);
  std::vector<double> want(3 * kExperts);
  for (std::int64_t row = 0; row < kRows; ++row) {
    const double* const s = scores.ptr<double>() + row * kExperts;
    const double total = std::accumulate(s, s + kExperts, 0.0);
    for (std::int64_t e = 0; e < kExperts; ++e)
      want[static_cast<std::size_t>((kFirst + row) / kLength * kExperts + e)] += s[e] / total;
  }
  bench.run(score_sums, scores, {kFirst, kLength, 3}, sums);
  CHECK(test::max_error(sums, want) <= test::tolerance(DType::kF64));
}

TEST_CASE("counts and score sums of segments that rank borders cut add up", "[routing]") {
  KernelBench bench(2);
  const std::int64_t experts = 70, top_k = 3, segment_len = 10, segments = 4, rows = segment_len * segments;
  const Tensor indices = bench.integers({rows, top_k}, 0, experts);
  const Tensor scores = bench.filled({rows, experts}, DType::kF64, [](std::int64_t i) {
    return 0.01 + static_cast<double>(i * 7919 % 1000) / 1000;
  });
  std::vector<double> counts(static_cast<std::size_t>(segments * experts)), sums(counts.size());
  const auto slot = [&](std::int64_t row, double e) {
    return static_cast<std::size_t>(row / segment_len * experts + static_cast<std::int64_t>(e));
  };
  for (std::int64_t t = 0; t < rows; ++t) {
    for (double e : row_of(indices, t)) ++counts[slot(t, e)];
    const Row s = row_of(scores, t);
    const double total = std::accumulate(s.begin(), s.end(), 0.0);
    for (std::size_t e = 0; e < s.size(); ++e) sums[slot(t, double(e))] += s[e] / total;
  }
  // Ranks with 14, 0, 19 and 7 rows: their borders cut segments 1, 3 and 3.
  std::vector<double> got_counts(counts.size()), got_sums(sums.size());
  std::int64_t first = 0;
  for (std::int64_t held : {14, 0, 19, 7}) {
    const Segments here{first, segment_len, segments};
    const Tensor c = bench.poisoned({segments, experts}, DType::kI64);
    const Tensor s = bench.poisoned({segments, experts}, DType::kF64);
    bench.run(routing_counts, indices.slice(first, first + held), here, c);
    bench.run(score_sums, scores.slice(first, first + held), here, s);
    for (std::size_t i = 0; i < counts.size(); ++i) {
      got_counts[i] += static_cast<double>(c.ptr<std::int64_t>()[i]);
      got_sums[i] += s.ptr<double>()[i];
    }
    first += held;
  }
  CHECK(got_counts == counts);
  for (std::size_t i = 0; i < sums.size(); ++i) CHECK(got_sums[i] == Approx(sums[i]).epsilon(1e-12));
}

TEST_CASE("gradients of score sums and of the z-loss equal differences", "[routing]") {
  KernelBench bench;
  const std::int64_t rows = 7, experts = 5;
  const Segments segments{2, 3, 4};  // rows 2 .. 8 of segments of 3: cut at both ends
  const Tensor scores = bench.filled({rows, experts}, DType::kF64,
                                     [](std::int64_t i) { return 0.1 + static_cast<double>(i % 9) / 9; });
  const Tensor coefficient = bench.random({4, experts}, DType::kF64);
  const Tensor sums = bench.poisoned({4, experts}, DType::kF64);
  const Tensor d_scores = bench.poisoned({rows, experts}, DType::kF64);
  bench.run(score_sums_backward, scores, segments, coefficient, d_scores);
  CHECK(test::gradient_error(scores, d_scores, [&] {
          bench.run(score_sums, scores, segments, sums);
          double sum = 0;
          for (std::int64_t i = 0; i < sums.numel(); ++i) {
            sum += sums.ptr<double>()[i] * coefficient.ptr<double>()[i];
          }
          return sum;
        }) < 1e-8);

  const Tensor logits = bench.random({rows, experts}, DType::kF64);
  const Tensor dlogits = bench.filled({rows, experts}, DType::kF64, [](std::int64_t) { return 0; });
  bench.run(router_z_loss_backward, logits, 0.7, dlogits);
  CHECK(test::gradient_error(logits, dlogits, [&] { return sum_by(bench, router_z_loss, logits, 0.7); }) <
        1e-8);
  bench.run(router_z_loss_backward, logits, 0.7, dlogits);  // adds
  CHECK(test::gradient_error(logits, dlogits, [&] { return sum_by(bench, router_z_loss, logits, 1.4); }) <
        1e-8);
}

TEST_CASE("entropy is log E for equal scores and 0 for one-hot ones", "[routing]") {
  KernelBench bench;
  const Tensor equal = bench.filled({3, 8}, DType::kF32, [](std::int64_t) { return 0.25; });
  CHECK(sum_by(bench, router_entropy, equal, 1) == Approx(3 * std::log(8.0)));
  const Tensor one_hot = bench.filled({3, 8}, DType::kF32, [](std::int64_t i) { return i % 8 == 2 ? 1 : 0; });
  CHECK(sum_by(bench, router_entropy, one_hot, 1) == Approx(0).margin(1e-6));
}

TEST_CASE("impossible router rules are refused", "[routing]") {
  KernelBench bench(1, Device::kMeta);
  const auto message = [&](const RouterRule& rule) {
    const Tensor logits = bench.poisoned({1, rule.num_experts}, DType::kF32);
    try {
      bench.run(router_forward, rule, logits, {}, make_output(bench, rule, 1, DType::kF32));
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  using Catch::Matchers::ContainsSubstring;
  CHECK(message({.num_experts = 8, .top_k = 2}).empty());
  CHECK_THAT(message({.num_experts = 0}), ContainsSubstring("top_k 1 of 0 experts"));
  CHECK_THAT(message({.num_experts = 8, .top_k = 9}), ContainsSubstring("top_k 9 of 8 experts"));
  CHECK_THAT(message({.num_experts = 8, .groups = 3}), ContainsSubstring("8 experts in 3 groups"));
  CHECK_THAT(message({.num_experts = 8, .groups = 4, .groups_kept = 5}), ContainsSubstring("5 of 4 groups"));
  CHECK_THAT(message({.num_experts = 8, .top_k = 5, .groups = 4, .groups_kept = 2}),
             ContainsSubstring("kept for top_k 5"));
}

TEST_CASE("routing on the meta device checks, counts and touches nothing", "[routing]") {
  KernelBench bench(1, Device::kMeta);
  const RouterRule rule{.num_experts = 8, .top_k = 2};
  const Tensor logits = bench.poisoned({10, 8}, DType::kF32);
  const RouterOutput out = make_output(bench, rule, 10, DType::kF32);
  bench.run(router_forward, rule, logits, {}, out);
  CHECK(bench.meter[WorkKind::kRow].bytes == 10 * (8 + 8 + 2 + 2) * 4);
  bench.run(router_z_loss, logits, 1.0, bench.poisoned({1}, DType::kF64));
  CHECK_THROWS_AS(router_forward(bench.ctx, rule, logits.slice(0, 5), {}, out), Error);
}

}  // namespace jevons
