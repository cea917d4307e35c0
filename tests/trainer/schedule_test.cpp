// Learning-rate schedules, the batch ramp and the number of steps.
#include "trainer/optim/schedule.h"

#include <cmath>
#include <limits>

#include "kernels/core/error.h"
#include "tests/support/catch.h"
#include "trainer/config/step_plan.h"

namespace jevons {

TEST_CASE("warm-up rises to the peak and no step has rate zero", "[schedule]") {
  OptimConfig c{.lr = 1.0, .schedule = ScheduleKind::kConstant, .warmup_steps = 4};
  CHECK(learning_rate(c, 0, {100, 100}) == Approx(0.25));
  CHECK(learning_rate(c, 3, {100, 100}) == Approx(1.0));
  CHECK(learning_rate(c, 99, {100, 100}) == Approx(1.0));
}

TEST_CASE("the cosine goes from the peak to the floor at the last step", "[schedule]") {
  OptimConfig c{.lr = 2.0, .schedule = ScheduleKind::kCosine, .warmup_steps = 10, .min_lr_ratio = 0.1};
  CHECK(learning_rate(c, 10, {111, 111}) == Approx(2.0));
  CHECK(learning_rate(c, 60, {111, 111}) == Approx((2.0 + 0.2) / 2));
  CHECK(learning_rate(c, 110, {111, 111}) == Approx(0.2));
  CHECK(learning_rate(c, 500, {111, 111}) == Approx(0.2));
}

TEST_CASE("warm-up, stable, decay", "[schedule]") {
  OptimConfig c{.lr = 1.0,
                .schedule = ScheduleKind::kWarmupStableDecay,
                .warmup_steps = 2,
                .decay_steps = 11,
                .min_lr_ratio = 0.0};
  CHECK(learning_rate(c, 88, {100, 100}) == Approx(1.0));
  CHECK(learning_rate(c, 89, {100, 100}) == Approx(1.0));
  CHECK(learning_rate(c, 94, {100, 100}) == Approx(0.5));
  CHECK(learning_rate(c, 99, {100, 100}) == Approx(0.0));
}

namespace {

// DeepSeek-V3's (arXiv:2412.19437, section 4.2), with a batch ramp of its size.
RunConfig deepseek_v3() {
  constexpr std::int64_t kT = 1000000000000;
  RunConfig c;
  c.model.seq_len = 4096;
  c.train.global_batch_size = 15360, c.train.batch_ramp_start = 3072;
  c.train.batch_ramp_samples = 469 * kT / 1000 / 4096;
  c.train.tokens = 148 * kT / 10;
  c.optim.lr = 2.2e-4, c.optim.schedule = ScheduleKind::kStages;
  c.optim.stages = {{.shape = StageShape::kLinear, .until_steps = 2000},
                    {.until_tokens = 10 * kT},
                    {.shape = StageShape::kCosine, .ratio = 0.1, .until_tokens = 143 * kT / 10},
                    {.ratio = 0.1, .until_tokens = 14633 * kT / 1000},
                    {.ratio = 7.3e-6 / 2.2e-4}};
  c.model.mtp = {.depth = 1, .loss_weight = 0.3};
  c.optim.changes = {{.from_tokens = 10 * kT, .mtp_loss_weight = 0.1},
                     {.from_tokens = 143 * kT / 10, .bias_update_rate = 0}};
  return c;
}

}  // namespace

TEST_CASE("stages: the schedule of DeepSeek-V3 by steps and tokens", "[schedule]") {
  const RunConfig c = deepseek_v3();
  const ScheduleSpan span = schedule_span(c, {});
  REQUIRE(span.stage_ends.size() == 5);
  CHECK(span.stage_ends[0] == std::int64_t{2000} * 3072 * 4096);  // the ramp is still at its start
  const auto rate = [&](double tokens) {
    return learning_rate(c.optim, -1, span, static_cast<std::int64_t>(tokens));
  };
  const double step = 3072.0 * 4096;
  CHECK(rate(step) == Approx(2.2e-4 / 2000));  // no step has rate zero
  CHECK(rate(1000 * step) == Approx(1.1e-4));
  CHECK(rate(2000 * step) == Approx(2.2e-4));
  CHECK(rate(2001 * step) == 2.2e-4);
  CHECK(rate(10e12) == 2.2e-4);
  CHECK(rate(12.15e12) == Approx((2.2e-4 + 2.2e-5) / 2));
  CHECK(rate(14.3e12) == Approx(2.2e-5));
  CHECK(rate(14.633e12) == Approx(2.2e-5));
  CHECK(rate(14.634e12) == Approx(7.3e-6));
  CHECK(rate(14.8e12) == Approx(7.3e-6));
  CHECK(rate(99e12) == Approx(7.3e-6));

  CHECK(coefficients_at(c, 0).mtp_loss_weight == 0.3);
  CHECK(coefficients_at(c, 0).bias_update_rate == 0.001);
  CHECK(coefficients_at(c, 9999999999999).mtp_loss_weight == 0.3);
  CHECK(coefficients_at(c, 10000000000000).mtp_loss_weight == 0.1);
  CHECK(coefficients_at(c, 10000000000000).bias_update_rate == 0.001);
  CHECK(coefficients_at(c, 14300000000000).mtp_loss_weight == 0.1);
  CHECK(coefficients_at(c, 14300000000000).bias_update_rate == 0);
}

TEST_CASE("stages: the last may end with the run, and goes on from where the one before ended",
          "[schedule]") {
  RunConfig c;
  c.model.seq_len = 10, c.train.global_batch_size = 4, c.train.steps = 100;
  c.optim.lr = 1, c.optim.schedule = ScheduleKind::kStages;
  c.optim.stages = {{.ratio = 0.5, .until_steps = 20}, {.shape = StageShape::kLinear, .ratio = 0}};
  const ScheduleSpan span = schedule_span(c, {});
  CHECK(span.stage_ends == std::vector<std::int64_t>{800, 4000});
  CHECK(learning_rate(c.optim, 0, span, 40) == 0.5);
  CHECK(learning_rate(c.optim, 19, span, 800) == 0.5);
  CHECK(learning_rate(c.optim, 59, span, 2400) == Approx(0.25));
  CHECK(learning_rate(c.optim, 99, span, 4000) == 0);
  // Whatever batches brought the tokens: a run that goes on with others is at the same place.
  c.train.global_batch_size = 8, c.train.steps = 0, c.train.tokens = 4000;
  c.optim.stages[0] = {.ratio = 0.5, .until_tokens = 800};
  const ScheduleSpan rest = schedule_span(c, {.steps = 60, .samples = 240});
  CHECK(learning_rate(c.optim, 60, rest, 2400) == Approx(0.25));
}

TEST_CASE("the batch ramp rises in whole multiples of its start", "[schedule]") {
  TrainConfig c;
  c.global_batch_size = 32, c.batch_ramp_start = 8, c.batch_ramp_samples = 300;
  CHECK(batch_size_at(c, 0) == 8);
  CHECK(batch_size_at(c, 99) == 8);
  CHECK(batch_size_at(c, 100) == 16);
  CHECK(batch_size_at(c, 200) == 24);
  CHECK(batch_size_at(c, 300) == 32);
  c.batch_ramp_start = 0;
  CHECK(batch_size_at(c, 0) == 32);
}

TEST_CASE("steps end a run by count or by tokens, whichever is first", "[schedule]") {
  TrainConfig c;
  c.global_batch_size = 4;
  CHECK_THROWS_AS(steps_to_come(c, 10, {}), Error);
  c.steps = 7;
  CHECK(steps_to_come(c, 10, {}) == 7);
  c.tokens = 121;  // 13 sequences: 4 steps
  CHECK(steps_to_come(c, 10, {}) == 4);
  c.steps = 3;
  CHECK(steps_to_come(c, 10, {}) == 3);
  c.steps = 0, c.batch_ramp_start = 2, c.batch_ramp_samples = 8;
  std::int64_t consumed = 0, steps = 0;  // the same by walking
  while (consumed < 13) consumed += batch_size_at(c, static_cast<std::uint64_t>(consumed)), ++steps;
  CHECK(steps_to_come(c, 10, {}) == steps);
  c.tokens = std::numeric_limits<std::int64_t>::max(), c.batch_ramp_start = c.batch_ramp_samples = 0;
  CHECK(steps_to_come(c, 10, {}) == (c.tokens / 10 + 1) / 4 + 1);
}

TEST_CASE("what is trained so far counts by its samples, whatever its batches were", "[schedule]") {
  TrainConfig c;
  c.global_batch_size = 8, c.tokens = 800;  // 80 samples of 10 tokens
  CHECK(steps_to_come(c, 10, {.steps = 10, .samples = 40}) == 5);
  CHECK(steps_to_come(c, 10, {.steps = 10, .samples = 41}) == 5);
  CHECK(steps_to_come(c, 10, {.steps = 3, .samples = 79}) == 1);
  CHECK(steps_to_come(c, 10, {.steps = 30, .samples = 80}) == 0);
  CHECK(steps_to_come(c, 10, {.steps = 30, .samples = 99}) == 0);
  c.steps = 12;
  CHECK(steps_to_come(c, 10, {.steps = 10, .samples = 40}) == 2);
  CHECK(steps_to_come(c, 10, {.steps = 13, .samples = 40}) == 0);
  c.steps = 0, c.batch_ramp_start = 4, c.batch_ramp_samples = 60;  // 4; from sample 60 on 8
  CHECK(steps_to_come(c, 10, {.steps = 99, .samples = 52}) == 5);  // of 4, 4, 8, 8, 8: from 52 to 60, to 84
}

TEST_CASE("the rate of a run of one batch is the same to the bit wherever it goes on", "[schedule]") {
  for (const ScheduleKind kind : {ScheduleKind::kCosine, ScheduleKind::kWarmupStableDecay}) {
    const OptimConfig optim{.schedule = kind, .warmup_steps = 3, .decay_steps = 7};
    TrainConfig c;
    c.global_batch_size = 12, c.batch_ramp_start = 4, c.batch_ramp_samples = 100, c.tokens = 4321;
    const ScheduleSpan whole = schedule_span(c, 10, {});
    CHECK(whole.end == whole.length);
    TrainedSoFar done;
    while (done.steps < whole.end) {
      const ScheduleSpan span = schedule_span(c, 10, done);
      CHECK(span.end == whole.end);
      CHECK(learning_rate(optim, done.steps, span) == learning_rate(optim, done.steps, whole));
      done.samples += static_cast<std::uint64_t>(batch_size_at(c, done.samples));
      done.steps += 1;
    }
  }
}

TEST_CASE("with another batch the rate goes on from the tokens that are trained", "[schedule]") {
  TrainConfig c;
  c.tokens = 8000;  // 800 samples
  OptimConfig optim{.lr = 1.0, .schedule = ScheduleKind::kCosine, .min_lr_ratio = 0};
  c.global_batch_size = 4;
  const double before = learning_rate(optim, 99, schedule_span(c, 10, {}));  // of 200 steps
  c.global_batch_size = 8;
  const ScheduleSpan rest = schedule_span(c, 10, {.steps = 100, .samples = 400});
  CHECK(rest.end == 150);
  const double after = learning_rate(optim, 100, rest);
  CHECK(after == learning_rate(optim, 50, {100, 100}));  // half of the run that would have had 100 steps
  CHECK(std::abs(after - before) < 0.02);
  CHECK(learning_rate(optim, 149, rest) == Approx(0.0).margin(1e-12));
  optim.schedule = ScheduleKind::kWarmupStableDecay, optim.decay_steps = 20;
  CHECK(learning_rate(optim, 129, rest) == 1.0);
  CHECK(learning_rate(optim, 131, rest) < 1.0);
  // Warm-up counts the steps that were made.
  optim.warmup_steps = 120;
  CHECK(learning_rate(optim, 100, rest) == Approx(101.0 / 120));
}

TEST_CASE("a run that ends before its last stage begins keeps the rates of the others", "[schedule]") {
  RunConfig c;
  c.model.seq_len = 10, c.train.global_batch_size = 1, c.train.steps = 3;
  c.optim.lr = 1, c.optim.schedule = ScheduleKind::kStages;
  c.optim.stages = {{.shape = StageShape::kLinear, .until_tokens = 100}, {.ratio = 0.1}};
  const ScheduleSpan span = schedule_span(c, {});
  CHECK(span.end == 3);
  CHECK(learning_rate(c.optim, 1, span, 20) == Approx(0.2));
  CHECK(learning_rate(c.optim, 2, span, 30) == Approx(0.3));
}

}  // namespace jevons
