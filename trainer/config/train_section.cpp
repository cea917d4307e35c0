#include "trainer/config/train_section.h"

#include "trainer/config/section.h"

namespace jevons {
namespace {

constexpr Choice<Precision> kPrecisions[] = {{Precision::kF32, "f32"}, {Precision::kBF16, "bf16"}};
constexpr Choice<BadStepPolicy> kPolicies[] = {{BadStepPolicy::kSkip, "skip"},
                                               {BadStepPolicy::kStop, "stop"}};

}  // namespace

void carry(Bridge b, TrainConfig& train) {
  b("steps", train.steps);
  b("tokens", train.tokens);
  b("global_batch_size", train.global_batch_size);
  b("micro_batch_size", train.micro_batch_size);
  b("batch_ramp_start", train.batch_ramp_start);
  b("batch_ramp_samples", train.batch_ramp_samples);
  b("seed", train.seed);
  b("precision", train.precision, kPrecisions);
  b("eval_interval", train.eval_interval);
  b("eval_samples", train.eval_samples);
  b("log_interval", train.log_interval);
  b("max_bad_steps", train.max_bad_steps);
  b("on_bad_step", train.on_bad_step, kPolicies);
  b("spike_zscore", train.spike_zscore);
  b("spike_window", train.spike_window);
  b("replica_check_interval", train.replica_check_interval);
}

void check(const TrainConfig& t, Rules& rules) {
  const std::string batch = "train.global_batch_size", micro = "train.micro_batch_size",
                    start = "train.batch_ramp_start", length = "train.batch_ramp_samples";
  rules.require(
      {micro, batch}, [&] { return t.global_batch_size % t.micro_batch_size == 0; },
      "train.global_batch_size = {} is not divisible by train.micro_batch_size = {}", t.global_batch_size,
      t.micro_batch_size);
  const bool has_start = t.batch_ramp_start > 0, has_length = t.batch_ramp_samples > 0;
  rules.require(
      {has_start ? start : length, has_start ? length : start}, [&] { return has_start == has_length; },
      "train.batch_ramp_start and train.batch_ramp_samples belong together");
  rules.require(
      {start, batch}, [&] { return t.batch_ramp_start <= t.global_batch_size; },
      "train.batch_ramp_start = {} is more than train.global_batch_size = {}", t.batch_ramp_start,
      t.global_batch_size);
  rules.require(
      {start, micro}, [&] { return t.batch_ramp_start % t.micro_batch_size == 0; },
      "train.batch_ramp_start = {} is not divisible by train.micro_batch_size = {}", t.batch_ramp_start,
      t.micro_batch_size);
}

}  // namespace jevons
