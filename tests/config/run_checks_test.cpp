// What is found when a good configuration meets a run: its extent, its workers, its data.
#include <fmt/format.h>

#include <sstream>
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

namespace {

// What check_run says of the sample with these changes, or the layout if it says nothing.
std::string judged(const std::vector<std::string>& overrides, const RunSetting& setting) {
  try {
    return parse_run_config(test::kSample, "run.yaml", overrides, setting).parallel.layout.to_string();
  } catch (const Error& e) {
    CHECK(e.code() == ExitCode::kUsage);
    return e.what();
  }
}

std::string for_world(int workers, const std::vector<std::string>& overrides) {
  return judged(overrides, {.world = workers});
}

}  // namespace

TEST_CASE("config: what the number of workers decides", "[config]") {
  CHECK(for_world(4, {"parallel.ep=2"}) == "dp 4, tp 1, ep 2");
  CHECK(for_world(4, {"parallel.tp=2"}) == "dp 2, tp 2, ep 1");
  CHECK(for_world(8, {"parallel.dp=8", "parallel.ep=8"}) == "dp 8, tp 1, ep 8");
  CHECK(for_world(4, {"parallel.tp=3"}) ==
        "command line: parallel: tp*pp*cp = 3 does not divide the 4 workers");
  CHECK(
      for_world(3, {}) ==
      "run.yaml:16:22: train.global_batch_size = 8 is not divisible by train.micro_batch_size * parallel.dp "
      "= 1 * 3; 6 or 9 would fit");
  CHECK(
      for_world(16, {"train.micro_batch_size=2"}) ==
      "run.yaml:16:22: train.global_batch_size = 8 is not divisible by train.micro_batch_size * parallel.dp "
      "= 2 * 16; 32 would fit");
  CHECK(
      for_world(2, {"train.batch_ramp_start=3", "train.batch_ramp_samples=9"}) ==
      "command line: train.batch_ramp_start = 3 is not divisible by train.micro_batch_size * parallel.dp = 1 "
      "* 2; 2 or 4 would fit");
}

TEST_CASE("config: a layout that does not fit the workers or the model", "[config]") {
  CHECK(for_world(2, {"parallel.tp=2", "model.qk_norm=hidden"}) ==
        "command line: parallel.tp: 2 cannot be used with model.qk_norm = hidden; tp 1 would fit");
  CHECK(for_world(4, {"parallel.dp=3", "parallel.tp=2"}) ==
        "command line: parallel: dp*tp = 3*2 = 6 but 4 workers were started; dp 2 would fit, or start 6 "
        "workers");
  CHECK(for_world(1, {"parallel.dp=2", "parallel.tp=2"}) ==
        "command line: parallel: dp*tp = 2*2 = 4 but 1 worker was started; start 4 workers");
  CHECK(
      for_world(6, {"parallel.dp=2", "parallel.tp=2"}) ==
      "command line: parallel: dp*tp = 2*2 = 4 but 6 workers were started; dp 3 or tp 3 would fit, or start "
      "4 workers");
  CHECK(for_world(4, {"parallel.ep=8"}) ==
        "command line: parallel.ep: 8 does not divide dp*tp = 4; ep 1, 2, 4 would fit");
  CHECK(for_world(3, {"parallel.ep=3", "train.global_batch_size=3"}) ==
        "command line: parallel.ep: 3 does not divide model.moe.num_experts = 8; ep 1 would fit");
  CHECK(for_world(2, {"parallel.tp=2", "model.moe.num_shared_experts=1", "model.moe.expert_hidden_size=7"}) ==
        "command line: parallel.tp: 2 does not divide model.moe.num_shared_experts * expert_hidden_size = 7; "
        "tp 1 would fit");
  CHECK(for_world(4, {"parallel.tp=4"}) ==
        "command line: parallel.tp: 4 does not divide model.num_kv_heads = 2; tp 1, 2 would fit");
  CHECK(for_world(8, {"parallel.cp=2", "parallel.tp=2", "parallel.ep=8"}) == "dp 2, cp 2, tp 2, ep 8");
  CHECK(judged({"parallel.cp=3"}, {}) ==
        "command line: parallel: cp*tp = 3*1 does not divide model.seq_len = 32; cp 1, 2, 4, 8, 16, 32 "
        "would fit");
  CHECK(for_world(2, {"parallel.dp=2", "parallel.cp=2"}) ==
        "command line: parallel: dp*cp*tp = 2*2*1 = 4 but 2 workers were started; dp 1 would fit, or start 4 "
        "workers");
  CHECK(for_world(4, {"parallel.cp=4", "parallel.ep=8"}) ==
        "command line: parallel.ep: 8 does not divide dp*cp*tp = 4; ep 1, 2, 4 would fit");
  // A model and a layout as large as the options allow, judged without a pause.
  CHECK(for_world(1, {"parallel.dp=262144", "parallel.tp=4096"}) != "");
}

TEST_CASE("config: a pipeline that does not fit", "[config]") {
  CHECK(for_world(4, {"parallel.pp=2"}) == "pp 2, dp 2, tp 1, ep 1");
  CHECK(for_world(2, {"parallel.pp=2", "parallel.dp=2"}) ==
        "command line: parallel: pp*dp*tp = 2*2*1 = 4 but 2 workers were started; dp 1 would fit, or start 4 "
        "workers");
  CHECK(
      for_world(4, {"parallel.pp=4"}) ==
      "command line: parallel.pp * virtual_stages = 4 * 1 stages need as many layers; model.num_layers is 2");
  CHECK(
      for_world(2, {"parallel.pp=2", "parallel.schedule=zb_v"}) ==
      "command line: parallel.pp * virtual_stages = 2 * 2 stages need as many layers; model.num_layers is 2");
  CHECK(for_world(2, {"parallel.pp=2", "parallel.stage_layers=1"}) ==
        "command line: parallel.stage_layers has 1 stages, parallel.pp * virtual_stages = 2 * 1");
  CHECK(for_world(2, {"parallel.pp=2", "parallel.stage_layers=1 2"}) ==
        "command line: parallel.stage_layers has 3 layers, model.num_layers is 2");
  CHECK(for_world(2, {"parallel.pp=2", "parallel.stage_layers=1 x"}) ==
        "command line: parallel.stage_layers = \"1 x\": give the layers of every stage, with spaces between "
        "them, such as \"8 8 8 6\"");
  CHECK(for_world(1, {"parallel.pairs=true", "parallel.stage_layers=2"}) ==
        "command line: parallel.pairs needs a pipeline: give parallel.pp\n"
        "command line: parallel.stage_layers needs a pipeline: give parallel.pp");
  CHECK(for_world(2, {"parallel.pp=2", "parallel.schedule_file=a.list", "train.batch_ramp_start=2",
                      "train.batch_ramp_samples=8"}) ==
        "command line: parallel.schedule_file is a list for one number of micro-batches; "
        "train.batch_ramp_start changes it");
  // Steps of 4 micro-batches; with a ramp of 1 and 2, too.
  const std::vector<std::string> dual = {"parallel.pp=2", "parallel.schedule=dualpipe_v",
                                         "model.num_layers=4", "train.micro_batch_size=2"};
  CHECK(for_world(2, dual) == "pp 2, dp 1, tp 1, ep 1");
  std::vector<std::string> ramp = dual;
  ramp.insert(ramp.end(), {"train.batch_ramp_start=2", "train.batch_ramp_samples=8"});
  CHECK_THAT(
      for_world(2, ramp),
      Catch::Matchers::ContainsSubstring("parallel.schedule: ") &&
          Catch::Matchers::ContainsSubstring(
              "a step has train.batch_ramp_start / (train.micro_batch_size * parallel.dp) = 1 micro-b"));
}

TEST_CASE("config: a training run needs data and an end", "[config]") {
  const RunSetting training = {.world = 1, .use = RunSetting::Use::kTraining};
  CHECK(judged({"data.train=[{path: x}]"}, training) == "dp 1, tp 1, ep 1");
  CHECK(judged({}, {.world = 1}) == "dp 1, tp 1, ep 1");
  CHECK(judged({}, training) ==
        "run.yaml: data.train is empty: give at least one source, data.train: [{path: ...}]");
  CHECK(judged({"data.train=[{path: x}]", "train.steps=0"}, training) ==
        "command line: train.steps and train.tokens are both 0: give one of them, or the run has no end");
}

// One of each kind: a word, a range, two options of a section, two sections, the workers.
TEST_CASE("config: mistakes of every kind are found at once, each at its place", "[config]") {
  const std::string five =
      "model:\n"
      "  vocab_size: 256\n"
      "  num_layers: 2\n"
      "  hidden_size: 64\n"
      "  num_heads: 4\n"
      "  num_kv_heads: 3\n"
      "  seq_len: 32\n"
      "  ffn_hidden_size: 64\n"
      "device: gpu\n"
      "train:\n"
      "  global_batch_size: 8\n"
      "  spike_window: 1\n"
      "  steps: 0\n"
      "parallel: {tp: 8}\n"
      "numerics: layout_invariant\n";
  const auto refusal = [&](const RunSetting& setting) -> std::string {
    try {
      parse_run_config(five, "run.yaml", {}, setting);
    } catch (const Error& e) {
      return e.what();
    }
    return "accepted";
  };
  const std::string anywhere =
      "run.yaml:9:9: device: expected one of auto, cpu, cuda, found \"gpu\"; did you mean \"cpu\"?\n"
      "run.yaml:12:17: train.spike_window: 1 is out of range; must be at least 2\n"
      "run.yaml:6:17: model.num_heads = 4 is not divisible by model.num_kv_heads = 3\n"
      "run.yaml:14:16: numerics = layout_invariant cannot be had with parallel.tp: sums inside a layer would "
      "be "
      "cut into tp parts; use 1";
  CHECK(refusal({}) == anywhere);
  CHECK(
      refusal({.world = 1, .use = RunSetting::Use::kTraining}) ==
      anywhere +
          "\nrun.yaml: data.train is empty: give at least one source, data.train: [{path: ...}]\n"
          "run.yaml:13:10: train.steps and train.tokens are both 0: give one of them, or the run has no end");
}

// Of a value that cannot be read, a section that is none, an option with another name.
TEST_CASE("config: a rule does not judge what another mistake left unknown", "[config]") {
  CHECK(judged({"model.num_heads=four"}, {.world = 2}) ==
        "command line: model.num_heads: expected a whole number, found \"four\"");
  CHECK(judged({"train=3"}, {.world = 3}) ==
        "command line: train: expected a section of options, found \"3\"");
  CHECK(judged({"model.moe.num_experts=0", "model.ffn_hidden_sise=8"}, {}) ==
        "command line: unknown key \"model.ffn_hidden_sise\"; did you mean \"model.ffn_hidden_size\"?");
}

// Each with every word that the schema has.
TEST_CASE("config: the program knows every choice of the schema", "[config]") {
  int tried = 0;
  std::istringstream table(describe_schema(SchemaFormat::kMarkdown));
  for (std::string line; std::getline(table, line);) {
    const std::size_t type = line.find("| one of ");
    if (!line.starts_with("| `") || type == std::string::npos) continue;
    const std::string key = line.substr(3, line.find('`', 3) - 3);
    std::istringstream names(line.substr(type + 9, line.find(" |", type + 1) - type - 9));
    for (std::string name; std::getline(names >> std::ws, name, ',');) {
      INFO(key << " = " << name);
      try {
        parse_run_config(test::kSample, "run.yaml", {key + "=" + name});
      } catch (const Error&
                   e) {  // a choice that does not fit the others; kFailure if the program has no such name
        CHECK(e.code() == ExitCode::kUsage);
      }
      ++tried;
    }
  }
  CHECK(tried >= 30);
}

}  // namespace jevons
