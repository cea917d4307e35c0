// Balance losses at known loads, the selection bias rule, health figures.
#include "trainer/model/balance.h"

#include <cmath>
#include <numeric>

#include "kernels/core/error.h"
#include "kernels/core/rng.h"
#include "parallel/meta/meta_communicator.h"
#include "tests/support/catch.h"
#include "tests/support/ranks.h"
#include "tests/support/test_bed.h"

namespace jevons {
namespace {

using test::TestBed;

MoeConfig all_losses(std::int64_t experts, std::int64_t top_k) {
  MoeConfig moe;
  moe.router = {.num_experts = experts, .top_k = top_k};
  moe.balance_loss = moe.sequence_balance_loss = moe.global_balance_loss = moe.z_loss = 0.5;
  return moe;
}

// Rows that choose given experts, with given scores.
template <class Chosen, class Score>
RoutedBatch batch_of(TestBed& bed, const MoeConfig& moe, const Segments& sequences, std::int64_t rows,
                     Chosen chosen, Score score) {
  const std::int64_t experts = moe.router.num_experts, top_k = moe.router.top_k;
  RoutedBatch batch;
  batch.sequences = sequences;
  batch.logits = bed.tensor({rows, experts}, DType::kF64);
  batch.out = {bed.tensor({rows, experts}, DType::kF64), bed.tensor({rows, top_k}, DType::kI32),
               bed.tensor({rows, top_k}, DType::kF64)};
  for (std::int64_t t = 0; t < rows; ++t) {
    for (std::int64_t i = 0; i < experts; ++i) batch.out.scores.ptr<double>()[t * experts + i] = score(t, i);
    for (std::int64_t k = 0; k < top_k; ++k) {
      batch.out.indices.ptr<std::int32_t>()[t * top_k + k] = static_cast<std::int32_t>(chosen(t, k));
    }
  }
  return batch;
}

LayerHealth end_step(const Context& ctx, Balance& balance, BiasUpdate update = BiasUpdate::kSkip) {
  Balance* const layers[] = {&balance};
  return Balance::end_step(ctx, layers, update)[0];
}

}  // namespace

TEST_CASE("balance: every loss is 1 at perfect balance, and z is (log E)^2 for logits of 0", "[moe]") {
  MetaCommunicator world(0, 1);
  TestBed bed(world);
  const MoeConfig moe = all_losses(8, 2);
  Balance balance(bed.store, moe);
  const double scale = GENERATE(1.0 / 8, 0.5);  // softmax, or sigmoids that do not sum to 1
  // Two micro-batches of 3 sequences of 4 rows; every sequence chooses every expert once.
  for (int i = 0; i < 2; ++i) {
    const RoutedBatch batch = batch_of(
        bed, moe, {0, 4, 3}, 12, [](auto t, auto k) { return (2 * t + k) % 8; },
        [&](auto, auto) { return scale; });
    balance.accumulate(bed.ctx, batch, {.micro_batch = 0.5, .sequence = 1.0 / 6, .position = 1.0 / 24});
  }
  const LayerHealth health = end_step(bed.ctx, balance);
  CHECK(health.micro_batch_balance == Approx(1));
  CHECK(health.sequence_balance == Approx(1));
  CHECK(health.global_balance == Approx(1));
  CHECK(health.z_loss == Approx(std::log(8.0) * std::log(8.0)));
  CHECK(health.router_entropy == Approx(std::log(8.0)));
  CHECK(health.max_over_mean == 1);
  CHECK(health.dead_experts == 0);
}

TEST_CASE("balance: everything on one expert costs E for top-1; the next step starts from nothing", "[moe]") {
  MetaCommunicator world(0, 1);
  TestBed bed(world);
  const MoeConfig moe = all_losses(6, 1);
  Balance balance(bed.store, moe);
  for (int step = 0; step < 2; ++step) {
    RoutedBatch batch = batch_of(
        bed, moe, {0, 5, 2}, 10, [](auto, auto) { return 3; },
        [](auto, auto i) { return i == 3 ? 1.0 : 0.0; });
    const Tensor dropped = bed.tensor({1}, DType::kI64);
    *dropped.ptr<std::int64_t>() = 2;
    batch.dropped = {dropped, dropped}, batch.rows = 10;
    balance.accumulate(bed.ctx, batch, {.micro_batch = 1, .sequence = 0.5, .position = 0.1});
    const LayerHealth health = end_step(bed.ctx, balance);
    CHECK(health.micro_batch_balance == Approx(6));
    CHECK(health.sequence_balance == Approx(6));
    CHECK(health.global_balance == Approx(6));
    CHECK(health.max_over_mean == 6);
    CHECK(health.dead_experts == 5);
    CHECK(health.router_entropy == Approx(0).margin(1e-12));
    CHECK(health.dropped_slots == 4);
    CHECK(health.max_rows == 10);
  }
}

TEST_CASE("balance: the global loss forgives what the micro-batch loss punishes", "[moe][ranks]") {
  // Rank r sends everything to expert r: each micro-batch is lopsided, both together are even.
  test::run_ranks(2, [&](Communicator& world) {
    TestBed bed(world, DType::kF64, {.dp = 2});
    const MoeConfig moe = all_losses(2, 1);
    Balance balance(bed.store, moe);
    const int mine = world.rank();
    const RoutedBatch batch = batch_of(
        bed, moe, {0, 4, 1}, 4, [&](auto, auto) { return mine; },
        [&](auto, auto i) { return i == mine ? 0.75 : 0.25; });
    balance.accumulate(bed.ctx, batch, {.micro_batch = 0.5, .sequence = 0.5, .position = 1.0 / 8});
    const LayerHealth h = end_step(bed.ctx, balance);  // all ranks know the same
    ENSURE(h.micro_batch_balance.value() == Approx(1.5), "micro-batch {}", h.micro_batch_balance.value());
    ENSURE(h.sequence_balance.value() == Approx(1.5), "sequence {}", h.sequence_balance.value());
    ENSURE(h.global_balance.value() == Approx(1), "global {}", h.global_balance.value());
    ENSURE(h.max_over_mean == 1, "load {}", h.max_over_mean);
  });
}

TEST_CASE("balance: tp ranks that share sequences give one worker's losses and gradients", "[moe][ranks]") {
  // 4 sequences of 6 rows; 24 rows over 4 ranks cut three of them.
  const std::int64_t rows = 24, experts = 5;
  const MoeConfig moe = all_losses(experts, 2);
  const LossScales scales{.micro_batch = 1, .sequence = 0.25, .position = 1.0 / 24};
  const auto chosen = [](std::int64_t t, std::int64_t k) { return (t * t / 7 + k * (1 + t % 3)) % 5; };
  const auto score = [](std::int64_t t, std::int64_t i) {
    return 0.1 + 0.05 * static_cast<double>((t * 3 + i * 5) % 11);
  };
  std::vector<double> gradient;
  LayerHealth want;
  {
    MetaCommunicator world(0, 1);
    TestBed bed(world);
    Balance balance(bed.store, moe);
    const Tensor d = balance.accumulate(bed.ctx, batch_of(bed, moe, {0, 6, 4}, rows, chosen, score), scales);
    gradient.assign(d.ptr<double>(), d.ptr<double>() + d.numel());
    want = end_step(bed.ctx, balance);
  }
  test::run_ranks(4, [&](Communicator& world) {
    TestBed bed(world, DType::kF64, {.tp = 4});
    Balance balance(bed.store, moe);
    const std::int64_t held = rows / 4, first = world.rank() * held;
    const RoutedBatch batch = batch_of(
        bed, moe, {first, 6, 4}, held, [&](auto t, auto k) { return chosen(first + t, k); },
        [&](auto t, auto i) { return score(first + t, i); });
    const Tensor d = balance.accumulate(bed.ctx, batch, scales);
    for (std::int64_t i = 0; i < d.numel(); ++i) {
      const double there = gradient[static_cast<std::size_t>(first * experts + i)];
      ENSURE(std::abs(d.ptr<double>()[i] - there) < 1e-15, "gradient {} of rank {}", i, world.rank());
    }
    const LayerHealth got = end_step(bed.ctx, balance);
    ENSURE(std::abs(got.micro_batch_balance.value() - want.micro_batch_balance.value()) < 1e-12,
           "micro-batch loss");
    ENSURE(std::abs(got.sequence_balance.value() - want.sequence_balance.value()) < 1e-12, "sequence loss");
    ENSURE(std::abs(got.global_balance.value() - want.global_balance.value()) < 1e-12, "global loss");
    ENSURE(std::abs(got.router_entropy - want.router_entropy) < 1e-12, "entropy");
    ENSURE(got.max_over_mean == want.max_over_mean, "load");
  });
}

TEST_CASE("balance: the global loss uses the load of the step so far", "[moe]") {
  MetaCommunicator world(0, 1);
  TestBed bed(world);
  MoeConfig moe = all_losses(2, 1);
  moe.balance_loss = moe.sequence_balance_loss = moe.z_loss = 0;
  Balance balance(bed.store, moe);
  for (int expert : {0, 1}) {
    const RoutedBatch batch = batch_of(
        bed, moe, {0, 4, 1}, 4, [&](auto, auto) { return expert; },
        [&](auto, auto i) { return i == expert ? 0.75 : 0.25; });
    balance.accumulate(bed.ctx, batch, {.micro_batch = 0.5});
  }
  // First micro-batch: f = (2, 0), sum f P = 1.5. Second: f = (1, 1), sum f P = 1.
  const LayerHealth health = end_step(bed.ctx, balance);
  CHECK(health.global_balance == Approx(1.25));
  CHECK_FALSE(health.micro_batch_balance);  // not asked for
  CHECK_FALSE(health.sequence_balance);
  CHECK_FALSE(health.z_loss);
}

TEST_CASE("balance: without losses there is no gradient, and still a load", "[moe]") {
  MetaCommunicator world(0, 1);
  TestBed bed(world);
  MoeConfig moe;
  moe.router = {.num_experts = 4, .top_k = 1};
  Balance balance(bed.store, moe);
  const RoutedBatch batch = batch_of(
      bed, moe, {0, 4, 2}, 8, [](auto t, auto) { return t < 6 ? 0 : 1; }, [](auto, auto) { return 0.25; });
  CHECK_FALSE(balance.accumulate(bed.ctx, batch, {}).defined());
  CHECK_FALSE(balance.selection_bias().defined());
  const LayerHealth health = end_step(bed.ctx, balance);
  CHECK(health.max_over_mean == 3);
  CHECK(health.dead_experts == 2);
}

TEST_CASE("balance: the selection bias moves by its rate towards the mean load, or not at all", "[moe]") {
  MetaCommunicator world(0, 1);
  TestBed bed(world);
  MoeConfig moe;
  moe.router = {.num_experts = 4, .top_k = 1};
  moe.use_selection_bias = true, moe.bias_update_rate = 0.125;
  Balance balance(bed.store, moe);
  const RoutedBatch batch = batch_of(  // loads 4, 2, 2, 0
      bed, moe, {0, 8, 1}, 8, [](auto t, auto) { return t < 4 ? 0 : 1 + t % 2; },
      [](auto, auto) { return 0.25; });
  const auto bias = [&] {
    const Tensor b = balance.selection_bias();
    return std::vector<double>(b.ptr<double>(), b.ptr<double>() + b.numel());
  };
  balance.accumulate(bed.ctx, batch, {});
  end_step(bed.ctx, balance, BiasUpdate::kSkip);
  CHECK(bias() == std::vector<double>{0, 0, 0, 0});
  balance.accumulate(bed.ctx, batch, {});
  end_step(bed.ctx, balance, BiasUpdate::kApply);
  CHECK(bias() == std::vector<double>{-0.125, 0, 0, 0.125});
}

TEST_CASE("balance: from a skewed start the bias alone brings max/mean under 1.2 in 150 steps", "[moe]") {
  const ScoreFunction score = GENERATE(ScoreFunction::kSigmoid, ScoreFunction::kSoftmax);
  const BiasRule rule = GENERATE(BiasRule::kSign, BiasRule::kQuantile);
  MetaCommunicator world(0, 1);
  TestBed bed(world, DType::kF32);
  MoeConfig moe;
  moe.bias_rule = rule;
  const std::int64_t experts = 16, top_k = 2, rows = 4096;
  moe.router = {.num_experts = experts, .top_k = top_k, .score = score};
  moe.use_selection_bias = true, moe.bias_update_rate = score == ScoreFunction::kSigmoid ? 0.005 : 0.001;
  Balance balance(bed.store, moe);
  RoutedBatch batch;
  batch.sequences = {0, rows, 1};
  batch.logits = bed.tensor({rows, experts}, DType::kF32);
  batch.out = {bed.tensor({rows, experts}, DType::kF32), bed.tensor({rows, top_k}, DType::kI32),
               bed.tensor({rows, top_k}, DType::kF32)};
  const RandomStream stream(11, "logits");
  std::vector<double> max_over_mean;
  for (std::int64_t step = 0; step < 160; ++step) {
    for (std::int64_t i = 0; i < batch.logits.numel(); ++i) {
      const double skew = 1.5 * std::cos(static_cast<double>(i % experts));  // the same in every step
      const double noise = stream.normal(static_cast<std::uint64_t>(step * batch.logits.numel() + i));
      batch.logits.ptr<float>()[i] = static_cast<float>(skew + noise);
    }
    router_forward(bed.ctx, moe.router, batch.logits, balance.selection_bias(), batch.out);
    CHECK_FALSE(balance.accumulate(bed.ctx, batch, {}).defined());
    max_over_mean.push_back(end_step(bed.ctx, balance, BiasUpdate::kApply).max_over_mean);
  }
  const double late = std::accumulate(max_over_mean.begin() + 150, max_over_mean.end(), 0.0) / 10;
  INFO("max/mean at the start " << max_over_mean.front() << ", mean of steps 150 to 159 " << late);
  CHECK(max_over_mean.front() > 2);
  CHECK(late < 1.2);
  // One batch of that many tokens is enough to know the quantiles.
  if (rule == BiasRule::kQuantile) CHECK(max_over_mean[3] < 1.2);
}

namespace {

// The rule as its definition says, from all scores of a batch: c_t by sorting, a histogram of d = c_t - s_ti.
std::vector<double> quantile_biases(const Tensor& scores, const std::vector<double>& bias,
                                    std::int64_t top_k) {
  const std::int64_t experts = std::ssize(bias), tokens = scores.rows();
  const auto [least, most] = std::minmax_element(bias.begin(), bias.end());
  const double low = *least - 1, width = (*most + 1 - low) / 1000;
  std::vector<std::vector<double>> histogram(static_cast<std::size_t>(experts), std::vector<double>(1000));
  for (std::int64_t t = 0; t < tokens; ++t) {
    std::vector<double> choice;
    for (std::int64_t i = 0; i < experts; ++i)
      choice.push_back(scores.ptr<double>()[t * experts + i] + bias[static_cast<std::size_t>(i)]);
    std::ranges::sort(choice, std::greater{});
    const double threshold = choice[static_cast<std::size_t>(top_k)];
    for (std::int64_t i = 0; i < experts; ++i) {
      const double place = (threshold - scores.ptr<double>()[t * experts + i] - low) / width;
      histogram[static_cast<std::size_t>(i)][static_cast<std::size_t>(std::clamp(place, 0.0, 999.0))] += 1;
    }
  }
  std::vector<double> result;
  double mean = 0;
  for (const std::vector<double>& counts : histogram) {
    const double target = static_cast<double>(tokens * top_k) / static_cast<double>(experts);
    double sum = 0;
    std::size_t bin = 0;
    while (sum + counts[bin] < target) sum += counts[bin++];
    result.push_back(low + width * (static_cast<double>(bin) + (target - sum) / counts[bin]));
    mean += result.back() / static_cast<double>(experts);
  }
  for (double& b : result) b -= mean;
  return result;
}

}  // namespace

TEST_CASE("balance: quantile biases are those of the definition, whatever ranks hold the tokens",
          "[moe][ranks]") {
  const std::int64_t experts = 6, top_k = 2, rows = 48, steps = 3;
  MoeConfig moe;
  moe.router = {.num_experts = experts, .top_k = top_k, .score = ScoreFunction::kSigmoid};
  moe.use_selection_bias = true, moe.bias_rule = BiasRule::kQuantile;
  const RandomStream stream(3, "logits");
  // Rows [first, first + count) of a step, routed.
  const auto route = [&](TestBed& bed, Balance& balance, std::int64_t step, std::int64_t first,
                         std::int64_t count) {
    RoutedBatch batch;
    batch.sequences = {first, rows, 1};
    batch.logits = bed.tensor({count, experts}, DType::kF64);
    batch.out = {bed.tensor({count, experts}, DType::kF64), bed.tensor({count, top_k}, DType::kI32),
                 bed.tensor({count, top_k}, DType::kF64)};
    for (std::int64_t i = 0; i < count * experts; ++i) {
      const auto at = static_cast<std::uint64_t>((step * rows + first) * experts + i);
      batch.logits.ptr<double>()[i] = stream.normal(at) + 0.7 * static_cast<double>(i % experts);
    }
    router_forward(bed.ctx, moe.router, batch.logits, balance.selection_bias(), batch.out);
    balance.accumulate(bed.ctx, batch, {});
    return batch.out.scores;
  };
  const auto bias_of = [](const Balance& balance) {
    const std::span<double> b = balance.selection_bias().span<double>();
    return std::vector<double>(b.begin(), b.end());
  };
  MetaCommunicator world(0, 1);
  TestBed bed(world);
  Balance balance(bed.store, moe);
  std::vector<double> want(static_cast<std::size_t>(experts));
  for (std::int64_t step = 0; step < steps; ++step) {
    want = quantile_biases(route(bed, balance, step, 0, rows), want, top_k);
    end_step(bed.ctx, balance, BiasUpdate::kApply);
    const std::vector<double> got = bias_of(balance);
    for (std::size_t i = 0; i < got.size(); ++i) CHECK(got[i] == Approx(want[i]).margin(1e-12));
    want = got;
    // A step that is skipped counts for nothing.
    route(bed, balance, 100 + step, 0, rows);
    end_step(bed.ctx, balance, BiasUpdate::kSkip);
    CHECK(bias_of(balance) == want);
  }
  test::run_ranks(4, [&](Communicator& ranks) {
    TestBed part(ranks, DType::kF64, {.tp = 4});
    Balance here(part.store, moe);
    for (std::int64_t step = 0; step < steps; ++step) {
      const std::int64_t own = rows / 4;
      route(part, here, step, ranks.rank() * own, own);
      end_step(part.ctx, here, BiasUpdate::kApply);
    }
    ENSURE(bias_of(here) == want, "other biases");
  });
}

}  // namespace jevons
