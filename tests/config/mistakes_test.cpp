// Every kind of mistake in a configuration, with the exact message that a user sees.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <string>
#include <vector>

#include "tests/config/refusal.h"

namespace jevons {
namespace {

using test::refusal;
using test::refusal_of;

// The sample configuration with one line more at its end, which is line 17.
std::string refusal_of_line(const std::string& line) {
  return refusal(test::kSample + line + "\n");
}

}  // namespace

TEST_CASE("config: the sample itself is good", "[config]") {
  CHECK_NOTHROW(parse_run_config(test::kSample, "run.yaml", {}));
}

TEST_CASE("config: unknown keys name the nearest one", "[config]") {
  CHECK(refusal_of_line("treads: 2") == "run.yaml:17:1: unknown key \"treads\"; did you mean \"threads\"?");
  CHECK(refusal_of_line("optimizer: {betas1: 0.5}") ==
        "run.yaml:17:13: unknown key \"optimizer.betas1\"; did you mean \"optimizer.beta1\"?");
  CHECK(refusal_of_line("schedule: {lr: 0.5}") ==
        "run.yaml:17:12: unknown key \"schedule.lr\"; did you mean \"optimizer.lr\"?");
  CHECK(refusal_of_line("colour: blue") == "run.yaml:17:1: unknown key \"colour\"");
}

TEST_CASE("config: moments in bf16 that would stand still", "[config]") {
  const std::string lost =
      "loses changes of less than 1/512, and with {} above 0.95 a moment would stand still; use "
      "bf16_stochastic";
  CHECK(refusal_of_line("optimizer: {moments: bf16, beta2: 0.999}") ==
        "run.yaml:17:22: optimizer.moments = bf16 " +
            fmt::format(fmt::runtime(lost), "optimizer.beta2 = 0.999"));
  CHECK(refusal_of_line("optimizer: {beta1: 0.99, moments: bf16}") ==
        "run.yaml:17:35: optimizer.moments = bf16 " +
            fmt::format(fmt::runtime(lost), "optimizer.beta1 = 0.99"));
  CHECK(refusal_of_line("optimizer: {kind: muon, moments: bf16, muon: {momentum: 0.97}}") ==
        "run.yaml:17:34: optimizer.moments = bf16 " +
            fmt::format(fmt::runtime(lost), "optimizer.muon.momentum = 0.97"));
  CHECK(refusal_of_line("optimizer: {kind: sgd, moments: bf16_stochastic}") ==
        "run.yaml:17:33: optimizer.moments: optimizer.kind = sgd has none");
  for (const char* good :
       {"optimizer: {moments: bf16}", "optimizer: {moments: bf16_stochastic, beta2: 0.999}",
        "optimizer: {kind: muon, moments: bf16}"})
    CHECK_NOTHROW(parse_run_config(test::kSample + std::string(good) + "\n", "run.yaml", {}));
}

TEST_CASE("config: duplicate keys", "[config]") {
  CHECK(refusal_of_line("train: {steps: 5}") ==
        "run.yaml:17:1: duplicate key \"train\"; first given in line 14");
  CHECK(refusal_of_line("cost: {currency: EUR, currency: USD}") ==
        "run.yaml:17:23: duplicate key \"cost.currency\"; first given in line 17");
}

TEST_CASE("config: values of the wrong type", "[config]") {
  CHECK(refusal_of_line("threads: many") ==
        "run.yaml:17:10: threads: expected a whole number, found \"many\"");
  CHECK(refusal_of_line("threads: 1.5") ==
        "run.yaml:17:10: threads: expected a whole number, found \"1.5\"; write plain decimal digits");
  CHECK(refusal_of_line("threads: 1e3") ==
        "run.yaml:17:10: threads: expected a whole number, found \"1e3\"; write plain decimal digits");
  CHECK(refusal_of_line("threads: 1_000") ==
        "run.yaml:17:10: threads: expected a whole number, found \"1_000\"; write plain decimal digits");
  CHECK(refusal_of_line("threads: 0x10") ==
        "run.yaml:17:10: threads: expected a whole number, found \"0x10\"; write plain decimal digits");
  CHECK(refusal_of_line("threads: 010") == "run.yaml:17:10: threads: \"010\" starts with a zero; write 10");
  CHECK(refusal_of_line("threads: \"4\"") ==
        "run.yaml:17:10: threads: expected a whole number, found text in quotes; write 4 without them");
  CHECK(refusal_of_line("checkpoint: {interval: often}") ==
        "run.yaml:17:24: checkpoint.interval: expected a whole number or auto, found \"often\"");
  CHECK(refusal_of_line("checkpoint: {interval: -1}") ==
        "run.yaml:17:24: checkpoint.interval: -1 is out of range; must be at least 0");
  CHECK(refusal_of_line("checkpoint: {keep_last: auto}") ==
        "run.yaml:17:25: checkpoint.keep_last: expected a whole number, found \"auto\"");
  CHECK(refusal_of_line("data: {train: [{path: a, weight: big}]}") ==
        "run.yaml:17:34: data.train.0.weight: expected a number or size, found \"big\"");
  CHECK(refusal_of_line("data: {train: [{path: a, weight: -1}]}") ==
        "run.yaml:17:34: data.train.0.weight: -1 is out of range; must be greater than 0");
  CHECK(refusal_of_line("data: {validation: [{path: a, weight: size}, {path: b, weight: 2}]}") ==
        "run.yaml:17:64: data.validation.1.weight = 2, but other sources of data.validation have size; give "
        "size to "
        "all or to none");
  CHECK(refusal_of_line("threads:") == "run.yaml:17:1: threads: has no value; expected a whole number");
  CHECK(refusal_of_line("threads: [1]") == "run.yaml:17:10: threads: expected a whole number, found a list");
  CHECK(refusal_of_line("optimizer: {lr: .nan}") ==
        "run.yaml:17:17: optimizer.lr: expected a finite number, found \".nan\"");
  CHECK(refusal_of_line("optimizer: {lr: nan}") ==
        "run.yaml:17:17: optimizer.lr: expected a finite number, found \"nan\"");
  CHECK(refusal_of_line("optimizer: {lr: -inf}") ==
        "run.yaml:17:17: optimizer.lr: expected a finite number, found \"-inf\"");
  CHECK(refusal_of_line("data: {document_mask: yes}") ==
        "run.yaml:17:23: data.document_mask: expected true or false, found \"yes\"");
  CHECK(refusal_of_line("device: cudda") ==
        "run.yaml:17:9: device: expected one of auto, cpu, cuda, found \"cudda\"; did you mean \"cuda\"?");
  CHECK(refusal_of_line("device: CPU") ==
        "run.yaml:17:9: device: expected one of auto, cpu, cuda, found \"CPU\"");
  CHECK(refusal_of_line("data: 7") == "run.yaml:17:7: data: expected a section of options, found \"7\"");
  CHECK(refusal_of_line("data: [1]") == "run.yaml:17:7: data: expected a section of options, found a list");
  CHECK(refusal_of_line("data: {train: x}") == "run.yaml:17:15: data.train: expected a list, found \"x\"");
  CHECK(refusal_of_line("data: {train: [x]}") ==
        "run.yaml:17:16: data.train.0: expected a section of options, found \"x\"");
  CHECK(refusal_of_line("[a]: 1") == "run.yaml:17:1: expected a key, found a list");
}

TEST_CASE("config: values out of range", "[config]") {
  CHECK(refusal_of_line("threads: -1") ==
        "run.yaml:17:10: threads: -1 is out of range; must be at least 0 and at most 4096");
  CHECK(refusal_of_line("threads: 99999999999") ==
        "run.yaml:17:10: threads: 99999999999 does not fit into 32 bits");
  CHECK(refusal_of_line("checkpoint: {interval: 9223372036854775808}") ==
        "run.yaml:17:24: checkpoint.interval: 9223372036854775808 does not fit into 64 bits");
  CHECK(refusal_of_line("data: {seed: -3}") ==
        "run.yaml:17:14: data.seed: -3 is out of range; must be at least 0");
  CHECK(refusal_of_line("data: {seed: 18446744073709551616}") ==
        "run.yaml:17:14: data.seed: 18446744073709551616 does not fit into 64 bits");
  CHECK(refusal_of_line("optimizer: {lr: 0}") ==
        "run.yaml:17:17: optimizer.lr: 0 is out of range; must be greater than 0");
  CHECK(refusal_of_line("optimizer: {beta1: 1}") ==
        "run.yaml:17:20: optimizer.beta1: 1 is out of range; must be at least 0 and less than 1");
  CHECK(refusal_of_line("optimizer: {lr: 1e999}") ==
        "run.yaml:17:17: optimizer.lr: 1e999 does not fit into a 64-bit float");
}

TEST_CASE("config: what YAML can do and configurations must not", "[config]") {
  CHECK(refusal_of_line("cost: {<<: {currency: EUR}}") ==
        "run.yaml:17:8: merge keys (<<) are not read; use include");
  CHECK(refusal("a: &x [*x]") ==
        "run.yaml:1:4: anchors and aliases (& and *) are not read; write the value out\n"
        "run.yaml:1:8: anchors and aliases (& and *) are not read; write the value out\n"
        "run.yaml:1:1: unknown key \"a\"\n"
        "run.yaml: model.vocab_size is missing: size of the vocabulary\n"
        "run.yaml: model.num_layers is missing: transformer blocks\n"
        "run.yaml: model.hidden_size is missing: width of the residual stream, D\n"
        "run.yaml: model.num_heads is missing: attention heads\n"
        "run.yaml: model.seq_len is missing: length of a training sequence\n"
        "run.yaml: train.global_batch_size is missing: sequences per optimizer step, over all workers\n"
        "run.yaml: model.ffn_hidden_size is missing: without model.moe.num_experts every layer is dense");
  CHECK(refusal_of_line("threads: !!int 3") == "run.yaml:17:10: tags (!...) are not read");
  CHECK(refusal_of_line("---\nthreads: 3") ==
        "run.yaml:17:1: a second document starts here; a file holds one run");
}

TEST_CASE("config: files that are no configuration", "[config]") {
  CHECK(refusal("") == "run.yaml: there is nothing in it");
  CHECK(refusal("# only a comment\n") == "run.yaml: there is nothing in it");
  CHECK_THAT(
      refusal("- a\n- b\n"),
      Catch::Matchers::StartsWith("run.yaml:1:1: expected options (key: value) at the top, found a list\n"));
  CHECK(refusal("name: \xff\n") == "run.yaml:1:7: byte 0xff is not UTF-8 text");
  CHECK(refusal("name: caf\xe9\n") == "run.yaml:1:10: byte 0xe9 is not UTF-8 text");
  CHECK(refusal(std::string("name: a\0b\n", 10)) == "run.yaml:1:8: byte 0x00 is not UTF-8 text");
  CHECK(refusal("model:\n\tvocab_size: 3\n") == "run.yaml:2:1: tab in the indentation; use spaces");
  CHECK(refusal("model: {a: 1\n") == "run.yaml:2:1: not valid YAML: end of map flow not found");
  CHECK(refusal(std::string(2000, '[')).starts_with("run.yaml:1:"));
  CHECK(refusal(std::string(3 << 20, '#')) == "run.yaml: 3145728 bytes are too many for a configuration");
}

TEST_CASE("config: a missing option says what it is", "[config]") {
  CHECK(refusal("model: {vocab_size: 256, num_layers: 1, hidden_size: 8, num_heads: 1, seq_len: x, "
                "ffn_hidden_size: 8}\n") ==
        "run.yaml:1:80: model.seq_len: expected a whole number, found \"x\"\n"
        "run.yaml: train.global_batch_size is missing: sequences per optimizer step, over all workers");
  CHECK(refusal_of_line("data: {train: [{weight: 2}]}") ==
        "run.yaml: data.train.0.path is missing: prefix of a .bin/.idx pair, or an llm.c .bin file");
}

TEST_CASE("config: an option under its name of version 0.1", "[config]") {
  const auto theta = [](const std::vector<std::string>& overrides) {
    return parse_run_config(test::kSample, "run.yaml", overrides).model.rope.theta;
  };
  CHECK(theta({}) == 10000);
  CHECK(theta({"model.rope_theta=500"}) == 500);
  CHECK(theta({"model.rope_theta=500", "model.rope.theta=600"}) == 600);
  const std::string model =
                        "model: {vocab_size: 9, num_layers: 1, hidden_size: 8, num_heads: 2, seq_len: 4, "
                        "ffn_hidden_size: 8,\n  ",
                    train = "}\ntrain: {global_batch_size: 1}\n";
  const auto read = [&](const std::string& options) {
    return parse_run_config(model + options + train, "run.yaml", {});
  };
  const RunConfig old = read("rope_theta: 700");
  CHECK(old.model.rope.theta == 700);
  CHECK(parse_run_config(old.to_yaml(), "run.yaml", {}) == old);
  CHECK(old.to_yaml().find("rope_theta") == std::string::npos);
  const auto mistake = [&](const std::string& options) { return refusal(model + options + train); };
  CHECK(mistake("rope_theta: 0") ==
        "run.yaml:2:15: model.rope.theta: 0 is out of range; must be greater than 0");
  CHECK(mistake("rope_theta: 7, rope: {theta: 8}") ==
        "run.yaml:2:32: model.rope.theta is given under two names; first in line 2");
  CHECK(mistake("rope: {theta: 8},\n  rope_theta: 7") ==
        "run.yaml:3:3: model.rope.theta is given under two names; first in line 2");
  CHECK(refusal_of("model.rope_thet=7").find("unknown key") != std::string::npos);
}

TEST_CASE("config: options of positions that do not fit together", "[config]") {
  const auto refused = [](std::vector<std::string> overrides) {
    for (std::string& each : overrides) each = "model.rope." + each;
    return refusal(test::kSample, overrides);
  };
  CHECK(refused({"factor=4"}) ==
        "command line: model.rope.factor says nothing here: it is for model.rope.scaling = linear, dynamic, "
        "llama3, yarn");
  CHECK(refused({"factor=4", "mscale=1", "scaling=none"}) == "accepted");
  CHECK(refused({"scaling=llama3", "original_seq_len=8", "mscale=1"}) ==
        "command line: model.rope.mscale says nothing here: it is for model.rope.scaling = yarn");
  CHECK(refused({"scaling=yarn", "original_seq_len=8", "low_freq_factor=2"}) ==
        "command line: model.rope.low_freq_factor says nothing here: it is for model.rope.scaling = llama3");
  for (const char* scaling : {"dynamic", "llama3", "yarn"}) {
    CHECK(refused({std::string("scaling=") + scaling})
              .find("model.rope.original_seq_len is missing: model.rope.scaling needs the context of "
                    "pretraining") != std::string::npos);
  }
  CHECK(refused({"scaling=linear", "factor=2"}) == "accepted");
  CHECK(refused({"scaling=linear", "factor=0.5"}) ==
        "command line: model.rope.factor: 0.5 is out of range; must be at least 1");
  CHECK(refused({"scaling=dynamic", "factor=2", "original_seq_len=1048576"}) == "accepted");
  CHECK(refused({"scaling=dynamic", "factor=2", "original_seq_len=1"})
            .starts_with("command line: model.rope.scaling = dynamic turns every sequence longer than "
                         "model.rope.original_seq_len = 1 in its own way, for which model.seq_len = "));
  CHECK(refused({"scaling=llama3", "original_seq_len=8", "low_freq_factor=4"}) ==
        "command line: model.rope.low_freq_factor = 4 is not below model.rope.high_freq_factor = 4");
  CHECK(refused({"scaling=yarn", "original_seq_len=8", "beta_slow=33"}) ==
        "command line: model.rope.beta_slow = 33 is above model.rope.beta_fast = 32");
  CHECK(refused({"scaling=yarn", "original_seq_len=8", "theta=1"}) ==
        "command line: model.rope.theta = 1 gives yarn no slower pairs; it must be above 1");
  CHECK(refused({"scaling=ntk"}).find("expected one of none, linear, dynamic, llama3, yarn") !=
        std::string::npos);
}

TEST_CASE("config: options that do not fit together, at the place where they were given", "[config]") {
  CHECK(refusal(test::kSample, {"model.num_heads=3", "model.num_kv_heads=0"}) ==
        "command line: model.hidden_size = 64 is not divisible by model.num_heads = 3; "
        "give model.head_dim or change one");
  CHECK(refusal_of("model.head_dim=7") ==
        "command line: model.head_dim = 7 is odd; rotary positions turn pairs");
  CHECK(refusal_of("model.num_kv_heads=3") ==
        "command line: model.num_heads = 4 is not divisible by model.num_kv_heads = 3");
  CHECK(refusal_of("model.moe.num_experts=1") ==
        "run.yaml:11:12: model.moe.top_k = 2 is more than model.moe.num_experts = 1");
  CHECK(refusal_of("model.moe.router.groups=3") ==
        "command line: model.moe.num_experts = 8 is not divisible by model.moe.router.groups = 3");
  CHECK(refusal_of("model.moe.router.groups_kept=2") ==
        "command line: model.moe.router.groups_kept = 2 is more than model.moe.router.groups = 1");
  CHECK(refusal(test::kSample, {"model.moe.router.groups=4", "model.moe.top_k=3"}) ==
        "command line: model.moe.top_k = 3 experts cannot be chosen from 1 groups of 2");
  CHECK(
      refusal(test::kSample, {"model.moe.router={groups: 8, groups_kept: 2}"}) ==
      "run.yaml: model.moe.router.group_score = sum_of_top2 needs groups of at least 2 experts, they have 1");
  CHECK(refusal_of("model.moe.expert_hidden_size=0") ==
        "run.yaml:10:18: model.moe.expert_hidden_size is missing: there are 8 experts");
  CHECK(refusal_of("model.moe.num_experts=0") ==
        "run.yaml: model.ffn_hidden_size is missing: without model.moe.num_experts every layer is dense");
  CHECK(refusal_of("model.moe.first_dense_layers=1") ==
        "run.yaml: model.ffn_hidden_size is missing: model.moe.first_dense_layers are dense");
  CHECK(refusal(test::kSample, {"model.moe.first_dense_layers=2", "model.ffn_hidden_size=8"}) ==
        "command line: model.moe.first_dense_layers = 2 leaves none of 2 layers for the experts");
  CHECK(refusal_of("train.micro_batch_size=3") ==
        "command line: train.global_batch_size = 8 is not divisible by train.micro_batch_size = 3");
  CHECK(refusal_of("train.batch_ramp_start=4") ==
        "command line: train.batch_ramp_start and train.batch_ramp_samples belong together");
  CHECK(refusal(test::kSample, {"train.batch_ramp_start=16", "train.batch_ramp_samples=9"}) ==
        "command line: train.batch_ramp_start = 16 is more than train.global_batch_size = 8");
  CHECK(refusal_of("schedule.kind=warmup_stable_decay") ==
        "command line: schedule.kind = warmup_stable_decay needs schedule.decay_steps");
  CHECK(refusal_of("data.train=[{path: \"\"}]") == "command line: data.train.0.path is empty");
  CHECK(refusal_of("name=a/b") ==
        "command line: name = \"a/b\" cannot name a directory; use letters, digits, - _ and .");
}

TEST_CASE("config: mistakes on the command line", "[config]") {
  CHECK(refusal_of("model.num_layer=2") ==
        "command line: unknown key \"model.num_layer\"; did you mean \"model.num_layers\"?");
  CHECK(refusal_of("num_experts=2") ==
        "command line: unknown key \"num_experts\"; did you mean \"model.moe.num_experts\"?");
  CHECK(refusal_of("model.num_experts=2") ==
        "command line: unknown key \"model.num_experts\"; did you mean \"model.moe.num_experts\"?");
  CHECK(refusal_of("threads.x=2") == "command line: unknown key \"threads.x\"; did you mean \"threads\"?");
  CHECK(refusal_of("model.num_layers=two") ==
        "command line: model.num_layers: expected a whole number, found \"two\"");
  CHECK(refusal_of("model.num_layers=") ==
        "command line: model.num_layers: has no value; expected a whole number");
  CHECK(refusal_of("model.num_layers") == "command line: \"model.num_layers\": expected key=value");
  CHECK(refusal_of("=2") == "command line: \"=2\": expected key=value");
  CHECK(refusal_of("model=3") == "command line: model: expected a section of options, found \"3\"");
  CHECK(refusal_of("data.train.1.path=x") ==
        "command line: data.train: \"1\" is not the number of an element, 0 to 0");
  CHECK(refusal_of("data.train.first.path=x") ==
        "command line: data.train: \"first\" is not the number of an element, 0 to 0");
  CHECK(refusal_of("data.train=[{path: x}") ==
        "command line: not valid YAML: end of sequence flow not found");
  CHECK(refusal_of("include=x.yaml") == "command line: include can be given in a file only");
}

TEST_CASE("config: what a shell would have replaced is refused in every path", "[config]") {
  CHECK(
      refusal_of_line("run_dir: ~/runs/x") ==
      "run.yaml:17:10: run_dir: \"~/runs/x\" begins with ~, which only a shell replaces; write the path out");
  CHECK(refusal_of("run_dir=$HOME/x") ==
        "command line: run_dir: \"$HOME/x\" has a variable ($...) in it, which only a shell replaces; write "
        "the path "
        "out");
  for (const char* option : {"data.train.0.path", "data.validation.0.path", "cost.prices", "run_dir"}) {
    for (const char* path : {"~", "~/x", "~name/x", "$X", "a/${X}", "/scratch/$USER/x"}) {
      INFO(option << " = " << path);
      CHECK(refusal_of(fmt::format("{}={}", option, path)).find("which only a shell replaces") !=
            std::string::npos);
    }
    for (const char* path : {"a~", "./~", "cost$", "a$/b", "5$.bin"}) {
      INFO(option << " = " << path);
      CHECK(refusal_of(fmt::format("{}={}", option, path)) == "accepted");
    }
  }
  CHECK(refusal_of("cost.project=$5") == "accepted");  // no path
}

TEST_CASE("config: numbers whose products overflow are refused", "[config]") {
  const std::string most = "9223372036854775807";
  for (const char* option :
       {"model.vocab_size", "model.num_layers", "model.hidden_size", "model.ffn_hidden_size",
        "model.num_heads", "model.num_kv_heads", "model.head_dim", "model.seq_len", "model.moe.num_experts",
        "model.moe.expert_hidden_size", "model.moe.num_shared_experts", "model.moe.first_dense_layers",
        "train.global_batch_size", "train.micro_batch_size", "train.batch_ramp_start",
        "train.batch_ramp_samples", "train.tokens", "train.steps", "schedule.warmup_steps"}) {
    INFO(option);
    const std::string message = refusal_of(fmt::format("{}={}", option, most));
    CHECK(message.find(most + " is out of range; must be at least ") != std::string::npos);
  }
  CHECK(refusal_of("model.vocab_size=" + most) ==
        "command line: model.vocab_size: 9223372036854775807 is out of range; must be at least 1 and at most "
        "16777216");
  CHECK(refusal(test::kSample,
                {"model.seq_len=16777216", "train.global_batch_size=64", "train.micro_batch_size=64"}) ==
        "command line: train.micro_batch_size * model.seq_len = 64 * 16777216 tokens are too many for a "
        "pass; at most "
        "268435456");
  CHECK(refusal(test::kSample, {"model.num_heads=65536", "model.num_kv_heads=1", "model.head_dim=1024"}) ==
        "command line: model.num_heads * model.head_dim = 65536 * 1024 is too wide; at most 1048576");
  CHECK(refusal(test::kSample, {"model.hidden_size=1048576", "model.moe.num_experts=65536",
                                "model.moe.expert_hidden_size=1048576"}) ==
        "run.yaml:3:15: the model would have about 4.3e+17 weights; at most 1e+15");
}

TEST_CASE("config: a price is known or -1", "[config]") {
  CHECK(refusal_of("cost.price_per_device_hour=-0.5") ==
        "command line: cost.price_per_device_hour = -0.5 is not a price; use one of at least 0, or -1 = "
        "unknown");
  CHECK(refusal_of("cost.price_per_device_hour=-1") == "accepted");
  CHECK(refusal_of("cost.price_per_device_hour=0") == "accepted");
}

TEST_CASE("config: dots are for the command line; what was typed is never the suggestion", "[config]") {
  CHECK(refusal_of_line("train.steps: 5") ==
        "run.yaml:17:1: unknown key \"train.steps\"; in a file, nest it: train: {steps: ...}");
  CHECK(refusal_of_line("optimizer: {}\nmodel.moe.topk: 5") ==
        "run.yaml:18:1: unknown key \"model.moe.topk\"; in a file, nest it: model: {moe: {top_k: ...}}");
  CHECK(refusal_of_line("parallel: {a.b: 5}") ==
        "run.yaml:17:12: unknown key \"parallel.a.b\"; in a file, nest it: a: {b: ...}");
  CHECK(refusal_of("model={moe.top_k: 5}") ==
        "command line: unknown key \"model.moe.top_k\"; in a file, nest it: moe: {top_k: ...}");
  CHECK(refusal(test::kSample, {"data.train=[{path: a}]", "data.train.0=x"}) ==
        "command line: data.train.0: expected a section of options, found \"x\"");
  CHECK(refusal(test::kSample, {"data.train=[{path: a}]", "data.train.0="}) ==
        "command line: data.train.0: expected a section of options, found no value");
  CHECK(refusal_of("data.train.0={path: a}") == "accepted");
}

TEST_CASE("config: all mistakes are reported, up to twenty", "[config]") {
  CHECK(refusal_of_line("threads: x\ndevice: y\nnmae: z") ==
        "run.yaml:17:10: threads: expected a whole number, found \"x\"\n"
        "run.yaml:18:9: device: expected one of auto, cpu, cuda, found \"y\"\n"
        "run.yaml:19:1: unknown key \"nmae\"; did you mean \"name\"?");
  std::string lines;
  for (int i = 0; i < 25; ++i) lines += "unknown_option_" + std::to_string(i) + ": 1\n";
  const std::string message = refusal_of_line(lines);
  CHECK_THAT(message, Catch::Matchers::EndsWith("\n... and 5 more"));
  CHECK(std::count(message.begin(), message.end(), '\n') == 20);
}

}  // namespace jevons
