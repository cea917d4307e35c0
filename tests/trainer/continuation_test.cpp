// What a second launch of a run may change, and what it is told.
#include "trainer/run/continuation.h"

#include <filesystem>

#include "kernels/core/host_name.h"
#include "tests/data/temp_files.h"
#include "tests/support/catch.h"
#include "tests/trainer/training_run.h"
#include "trainer/run/run_lock.h"

namespace jevons {
namespace {

using test::resolved;
using test::tiny_yaml;
using test::train;
using test::write_corpus;
using Lines = std::vector<std::string>;

const std::string kYaml = tiny_yaml("corpus", "run");

// What a launch with these overrides hears of a checkpoint that was made without any.
Lines notices(const std::vector<std::string>& overrides,
              LaunchFacts now = {.config = "", .data = "d1", .layout = "dp 1"}) {
  TrainState saved;
  saved.passport = {{"config", resolved(kYaml, {})}, {"data", "d1"}, {"layout", "dp 1"}};
  now.config = resolved(kYaml, overrides);
  return check_continuation(saved, "step-1", now);
}

}  // namespace

TEST_CASE("continuation: changed batch, layout, learning rate and data blend are told", "[continuation]") {
  CHECK(notices({}).empty());
  CHECK(notices({"train.global_batch_size=16", "optimizer.lr=0.02", "model.recompute=full"}) ==
        Lines{"model.recompute: none -> full", "optimizer.lr: 0.01 -> 0.02",
              "train.global_batch_size: 8 -> 16"});
  CHECK(notices({"data.train.1.path=more"}) ==
        Lines{"data.train.1.path: (absent) -> more", "data.train.1.weight: (absent) -> 1"});
  CHECK(notices({"parallel.tp=2"}, {.config = "", .data = "d1", .layout = "tp 2"}) ==
        Lines{"layout: dp 1 -> tp 2"});
  CHECK(notices({"parallel.zero_stage=0"}) == Lines{"parallel.zero_stage: 1 -> 0"});
  CHECK(notices({"numerics=layout_invariant"}) == Lines{"numerics: standard -> layout_invariant"});
  // Saving, cost, names and threads do not concern training.
  CHECK(notices({"checkpoint.interval=3", "cost.project=p", "name=other", "threads=2"}).empty());
}

TEST_CASE("continuation: another model is refused with the keys that differ", "[continuation]") {
  const std::string message = message_of(ExitCode::kUsage, [] {
    notices({"model.moe.top_k=1", "model.rope.theta=500", "optimizer.lr=0.02", "model.recompute=full"});
  });
  CHECK(contains(message, "model.moe.top_k: 2 -> 1\n"));
  CHECK(contains(message, "model.rope.theta: 10000 -> 500\n"));
  CHECK_FALSE(contains(message, "optimizer.lr"));
  CHECK_FALSE(contains(message, "recompute"));
  CHECK(contains(message_of(ExitCode::kData, [] { check_continuation({}, "step-1", {}); }), "no config"));
}

TEST_CASE("continuation: another kind of optimizer state is refused by name", "[continuation]") {
  const std::string kind = message_of(ExitCode::kUsage, [] { notices({"optimizer.kind=muon"}); });
  CHECK(contains(kind,
                 "step-1: the optimizer's state in this checkpoint is not what the configured one keeps"));
  CHECK(contains(kind, "optimizer.kind: adamw -> muon\n"));
  CHECK(contains(message_of(ExitCode::kUsage, [] { notices({"optimizer.moments=bf16"}); }),
                 "optimizer.moments: f32 -> bf16\n"));
  CHECK(notices({"optimizer.beta2=0.9"}) == Lines{"optimizer.beta2: 0.95 -> 0.9"});
}

TEST_CASE("continuation: tokens of another tokenizer are refused, whatever is meant", "[continuation]") {
  TrainState saved;
  saved.passport = {
      {"config", resolved(kYaml, {})}, {"data", "d1"}, {"tokenizer", "tok.json"}, {"tokenizer_hash", "t1"}};
  const auto resume = [&](const std::string& hash) {
    check_continuation(saved, "step-1",
                       {.config = resolved(kYaml, {}),
                        .data = "d2",
                        .tokenizer_hash = hash,
                        .layout = "",
                        .allow_data_change = true});
  };
  resume("t1");
  resume("");  // files that say nothing
  CHECK(contains(message_of(ExitCode::kData, [&] { resume("t2"); }),
                 "trained on the tokens of tok.json (hash t1)"));
  saved.passport.erase("tokenizer_hash");
  resume("t2");
}

TEST_CASE("continuation: other token files are refused unless the change is meant", "[continuation]") {
  const LaunchFacts other{.config = "", .data = "d2", .layout = "dp 1"};
  const std::string message = message_of(ExitCode::kData, [&] { notices({"data.train.0.path=new"}, other); });
  CHECK(contains(message, "d1 -> d2"));
  CHECK(contains(message, "data.train.0.path: corpus -> new"));
  LaunchFacts meant = other;
  meant.allow_data_change = true;
  CHECK(notices({"data.allow_change=true"}, meant).empty());
}

TEST_CASE("a token file that changes between launches or under a run is noticed", "[continuation]") {
  const TempDir dir;
  const std::string corpus = dir / "corpus", yaml = tiny_yaml(corpus, dir / "run");
  write_corpus(corpus);
  CHECK(train(1, yaml, {"train.steps=2"}) == ExitCode::kOk);
  std::string tokens = read_bytes(corpus + ".bin");
  tokens[5] ^= 1;
  write_bytes(corpus + ".bin", tokens);
  CHECK(contains(message_of(ExitCode::kData, [&] { train(1, yaml, {"train.steps=4"}); }), "not those"));
  CHECK(train(1, yaml, {"train.steps=4", "data.allow_change=true"}) == ExitCode::kOk);
}

TEST_CASE("a run directory is for one run at a time", "[continuation]") {
  const TempDir dir;
  using std::chrono::milliseconds;
  std::optional<RunLock> first(std::in_place, dir / "", milliseconds(0));
  const std::string message = message_of(ExitCode::kUsage, [&] { RunLock(dir / "", milliseconds(60)); });
  CHECK(contains(message, fmt::format("process {} on host {} since 2", getpid(), host_name())));
  first.reset();
  const RunLock second(dir / "", milliseconds(0));
}

}  // namespace jevons
