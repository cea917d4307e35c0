// What is found when a good configuration meets a run: its extent, its workers, its data.
#include <fmt/format.h>

#include <string>
#include <vector>

#include "kernels/core/error.h"
#include "tests/config/sample.h"
#include "tests/support/catch.h"
#include "trainer/config/advice.h"
#include "trainer/config/run_config.h"

namespace jevons {

TEST_CASE("config: options that cannot do what they say are warned of", "[config]") {
  const auto doubts = [](std::vector<std::string> overrides, const RunExtent& extent) {
    const RunConfig config = parse_run_config(test::kSample, "run.yaml", overrides);
    return fmt::format("{}", fmt::join(doubtful_options(config, extent), "\n"));
  };
  const RunExtent run{.total_steps = 10, .validation_samples = 4};
  CHECK(doubts({"schedule.warmup_steps=10"}, run) == "");
  CHECK(doubts({"schedule.warmup_steps=11"}, run) ==
        "schedule.warmup_steps = 11 is more than the 10 steps of the run: the learning rate never reaches "
        "its peak, "
        "and does not come down");
  const std::string decay = "schedule={kind: warmup_stable_decay, warmup_steps: 4, decay_steps: ";
  CHECK(doubts({decay + "6}"}, run) == "");
  CHECK(doubts({decay + "7}"}, run) ==
        "schedule.decay_steps = 7 does not fit into the 6 steps that schedule.warmup_steps = 4 leaves of 10: "
        "the decay "
        "takes these, and is as much steeper");

  const auto best = [&](const char* save, const char* eval, const RunExtent& extent) {
    return doubts({fmt::format("checkpoint={{keep_last: 1, keep_best: 2, interval: {}}}", save),
                   fmt::format("train.eval_interval={}", eval)},
                  extent);
  };
  CHECK(best("2", "3", run) == "");
  CHECK(best("auto", "3", run) == "");
  CHECK(best("4", "3", run) ==
        "checkpoint.keep_best = 2 keeps none but the last: no step before it is both saved "
        "(checkpoint.interval = 4) "
        "and validated (train.eval_interval = 3)");
  CHECK(best("2", "5", run) != "");  // step 10 is the last
  CHECK(best("2", "0", run) != "");
  CHECK(best("0", "2", run) != "");
  CHECK(best("auto", "10", run) != "");
  CHECK(best("9223372036854775807", "9223372036854775806", run) != "");
  CHECK(best("2", "3", {.total_steps = 10}) ==
        "checkpoint.keep_best = 2 keeps none: there is no validation data");

  const auto one_expert = [&](const char* router) {
    return doubts(
        {fmt::format("model.moe={{num_experts: 4, expert_hidden_size: 8, top_k: 1, router: {{{}}}}}",
                     router)},
        run);
  };
  CHECK_THAT(one_expert(""),
             Catch::Matchers::StartsWith("model.moe.top_k = 1: the weight of the chosen expert"));
  CHECK(one_expert("renormalize: true, score: sigmoid") != "");
  CHECK(one_expert("renormalize: false, top_k_before_score: true") != "");
  CHECK(one_expert("renormalize: false, top_k_before_score: true, score: sigmoid") == "");
  CHECK(one_expert("renormalize: false") == "");
}

TEST_CASE("config: what the number of workers decides", "[config]") {
  const auto for_world = [](int workers, const std::vector<std::string>& overrides) -> std::string {
    RunConfig config = parse_run_config(test::kSample, "run.yaml", overrides);
    try {
      validate_for_world(config, workers);
    } catch (const Error& e) {
      CHECK(e.code() == ExitCode::kUsage);
      return e.what();
    }
    return config.parallel.layout.to_string();
  };
  CHECK(for_world(4, {"parallel.ep=2"}) == "dp 4, tp 1, ep 2");
  CHECK(for_world(4, {"parallel.tp=2"}) == "dp 2, tp 2, ep 1");
  CHECK(for_world(4, {"parallel.tp=3"}) == "parallel: tp*pp*cp = 3 does not divide the 4 workers");
  CHECK(for_world(3, {}) ==
        "train.global_batch_size = 8 is not divisible by train.micro_batch_size * parallel.dp = 1 * 3; 6 or "
        "9 would fit");
  CHECK(for_world(16, {"train.micro_batch_size=2"}) ==
        "train.global_batch_size = 8 is not divisible by train.micro_batch_size * parallel.dp = 2 * 16; 32 "
        "would fit");
  CHECK(for_world(2, {"train.batch_ramp_start=3", "train.batch_ramp_samples=9"}) ==
        "train.batch_ramp_start = 3 is not divisible by train.micro_batch_size * parallel.dp = 1 * 2; 2 or 4 "
        "would fit");
  CHECK(for_world(2, {"parallel.tp=2", "model.qk_norm=hidden"}) ==
        "parallel.tp: 2 cannot be used with model.qk_norm = hidden; tp 1 would fit");
  CHECK_THAT(for_world(2, {"parallel.dp=3"}),
             Catch::Matchers::StartsWith("parallel: dp*tp = 3*1 = 3 but 2 workers"));
}

TEST_CASE("config: a training run needs data and an end", "[config]") {
  const auto problem = [](const std::vector<std::string>& overrides) -> std::string {
    try {
      validate_for_training(parse_run_config(test::kSample, "run.yaml", overrides));
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  };
  CHECK(problem({"data.train=[{path: x}]"}) == "");
  CHECK(problem({}) == "data.train is empty: give at least one source, data.train: [{path: ...}]");
  CHECK(problem({"data.train=[{path: x}]", "train.steps=0"}) ==
        "train.steps and train.tokens are both 0: give one of them, or the run has no end");
}

}  // namespace jevons
