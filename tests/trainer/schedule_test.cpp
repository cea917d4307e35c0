// Learning-rate schedules, the batch ramp and the number of steps.
#include "trainer/optim/schedule.h"
#include "kernels/core/error.h"
#include "tests/support/catch.h"
#include "trainer/step_plan.h"

namespace jevons {

TEST_CASE("warm-up rises to the peak and no step has rate zero", "[schedule]") {
  OptimConfig c{.lr = 1.0, .schedule = ScheduleKind::kConstant, .warmup_steps = 4};
  CHECK(learning_rate(c, 0, 100) == Approx(0.25));
  CHECK(learning_rate(c, 3, 100) == Approx(1.0));
  CHECK(learning_rate(c, 99, 100) == Approx(1.0));
}

TEST_CASE("the cosine goes from the peak to the floor at the last step", "[schedule]") {
  OptimConfig c{.lr = 2.0, .schedule = ScheduleKind::kCosine, .warmup_steps = 10, .min_lr_ratio = 0.1};
  CHECK(learning_rate(c, 10, 111) == Approx(2.0));
  CHECK(learning_rate(c, 60, 111) == Approx((2.0 + 0.2) / 2));
  CHECK(learning_rate(c, 110, 111) == Approx(0.2));
  CHECK(learning_rate(c, 500, 111) == Approx(0.2));
}

TEST_CASE("warm-up, stable, decay", "[schedule]") {
  OptimConfig c{.lr = 1.0,
                .schedule = ScheduleKind::kWarmupStableDecay,
                .warmup_steps = 2,
                .decay_steps = 11,
                .min_lr_ratio = 0.0};
  CHECK(learning_rate(c, 88, 100) == Approx(1.0));
  CHECK(learning_rate(c, 89, 100) == Approx(1.0));
  CHECK(learning_rate(c, 94, 100) == Approx(0.5));
  CHECK(learning_rate(c, 99, 100) == Approx(0.0));
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
  CHECK_THROWS_AS(total_steps(c, 10), Error);
  c.steps = 7;
  CHECK(total_steps(c, 10) == 7);
  c.tokens = 121;  // 13 sequences: 4 steps
  CHECK(total_steps(c, 10) == 4);
  c.steps = 3;
  CHECK(total_steps(c, 10) == 3);
  c.steps = 0, c.batch_ramp_start = 2, c.batch_ramp_samples = 8;
  std::int64_t consumed = 0, steps = 0;  // the same by walking
  while (consumed < 13) consumed += batch_size_at(c, static_cast<std::uint64_t>(consumed)), ++steps;
  CHECK(total_steps(c, 10) == steps);
}

}  // namespace jevons
