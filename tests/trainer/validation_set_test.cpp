// Validation over several sources: every one has its own loss, and the blend goes by weight.
#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "kernels/gemm.h"
#include "tests/trainer/training_run.h"
#include "trainer/config/step_plan.h"
#include "trainer/run/data_report.h"
#include "trainer/run/validation_set.h"

namespace jevons {
namespace {

using nlohmann::json;

// Two sources that are learnt differently well: a pattern, and noise.
struct Bed {
  TempDir dir;
  std::string yaml;

  Bed() {
    test::write_corpus(dir / "a");
    const RandomStream random(3, "noise");
    std::vector<std::int32_t> ids;
    for (std::uint64_t i = 0; i < 10'000; ++i) ids.push_back(static_cast<std::int32_t>(random.below(i, 64)));
    write_pair(dir / "c", TokenDType::kU8, {ids});
    yaml = test::tiny_yaml(dir / "a", dir / "run");
  }
  std::string both(const std::string& a = "1", const std::string& c = "1") const {
    return fmt::format("[{{path: {}, weight: {}}}, {{path: {}, weight: {}}}]", dir / "a", a, dir / "c", c);
  }
  // The last validation of a run of its own.
  json validation(std::vector<std::string> overrides, int world = 1) {
    const std::string run = dir / fmt::format("run-{}", runs_++);
    overrides.insert(overrides.end(), {"run_dir=" + run, "train.steps=6"});
    test::train(world, yaml, overrides, {.resume = "never"});
    std::ifstream file(run + "/metrics.jsonl");
    json last;
    for (std::string line; std::getline(file, line);) {
      json record = json::parse(line);
      if (record["kind"] == "validation") last = std::move(record);
    }
    return last;
  }

 private:
  int runs_ = 0;
};

double loss_of(const json& validation, std::size_t source) {
  return validation.at("sources").at(source).at("loss").get<double>();
}

}  // namespace

TEST_CASE("a part of the validation data sees every source", "[validation]") {
  Bed bed;
  const json all = bed.validation({"data.train=" + bed.both(), "train.eval_samples=0"});
  const json some = bed.validation({"data.train=" + bed.both(), "train.eval_samples=60"});
  REQUIRE(some["sources"].size() == 2);
  CHECK(some["sources"][0]["samples"] == 30);
  CHECK(some["sources"][1]["samples"] == 30);
  CHECK(all["sources"][0]["samples"] == 124);
  CHECK(loss_of(all, 1) > loss_of(all, 0) + 0.5);
  CHECK(loss_of(some, 0) == Approx(loss_of(all, 0)).margin(0.25));
  CHECK(loss_of(some, 1) == Approx(loss_of(all, 1)).margin(0.25));
  CHECK(some["loss"].get<double>() == Approx(all["loss"].get<double>()).margin(0.2));
}

TEST_CASE("the blend of the validation goes by weight", "[validation]") {
  Bed bed;
  const auto check_blend = [&](const std::string& weights, double share) {
    INFO(weights);
    const json v = bed.validation({"data.validation=" + weights, "train.eval_samples=40"});
    CHECK(v["sources"][0]["share"].get<double>() == Approx(share));
    CHECK(v["loss"].get<double>() ==
          Approx(share * loss_of(v, 0) + (1 - share) * loss_of(v, 1)).epsilon(1e-12));
    CHECK(v["bits_per_byte"].get<double>() == Approx(v["loss"].get<double>() / std::log(2.0)).epsilon(1e-12));
    CHECK(v["sources"][1]["bits_per_byte"].get<double>() ==
          Approx(v["sources"][1]["loss"].get<double>() / std::log(2.0)).epsilon(1e-12));
    return v["loss"].get<double>();
  };
  const double even = check_blend(bed.both(), 0.5);
  CHECK(check_blend(bed.both("1000000"), 1000000.0 / 1000001) < even - 0.2);
  check_blend(bed.both("size", "size"), 2.0 / 3);
}

TEST_CASE("held-out tails have the weights of their train sources", "[validation]") {
  Bed bed;
  const json v = bed.validation({"data.train=" + bed.both("3")});
  CHECK(v["sources"][0]["share"] == 0.75);
  CHECK(v["loss"].get<double>() == Approx(0.75 * loss_of(v, 0) + 0.25 * loss_of(v, 1)).epsilon(1e-12));
}

TEST_CASE("losses of sources have the same bits on every layout", "[validation][ranks]") {
  if (!gemm_backend(DType::kF32).row_invariant) return;
  Bed bed;
  const std::vector<std::string> overrides = {"data.train=" + bed.both(), "train.eval_samples=37",
                                              "numerics=layout_invariant"};
  const auto on = [&](int world, std::vector<std::string> layout) {
    layout.insert(layout.end(), overrides.begin(), overrides.end());
    return bed.validation(layout, world);
  };
  const json one = on(1, {});
  CHECK(on(4, {"parallel.ep=2"}) == one);
  CHECK(on(2, {"train.micro_batch_size=2"}) == one);
  CHECK(one["sources"][0]["samples"] == 19);
}

TEST_CASE("a source too short for a sample is named and not in the blend", "[validation]") {
  Bed bed;
  write_pair(bed.dir / "short", TokenDType::kU8, {counting(0, 16)});
  const std::string sources =
      fmt::format("[{{path: {}}}, {{path: {}, weight: 9}}]", bed.dir / "a", bed.dir / "short");
  const json v = bed.validation({"data.validation=" + sources});
  CHECK(v["sources"][1]["loss"].is_null());
  CHECK(v["sources"][1]["samples"] == 0);
  CHECK(v["loss"].get<double>() == loss_of(v, 0));

  const RunConfig config = parse_run_config(bed.yaml, "test.yaml", {"data.validation=" + sources});
  const DataLoader loader(config.data, config.model.vocab_size);
  const DataReport report = describe_data(loader, 640, config.train.eval_samples);
  REQUIRE(report.warnings.size() == 1);
  CHECK(contains(report.warnings[0], "validation source " + bed.dir / "short" + ": 16 tokens are too few"));
}

TEST_CASE("a blend knows what is unknown", "[validation]") {
  const SourceLoss known{.name = "a", .share = 0.5, .samples = 1, .loss = 2.0, .bits_per_byte = 3.0};
  SourceLoss words = known, masked = known;
  words.bits_per_byte.reset();
  words.loss = 4.0;
  masked.loss.reset();
  masked.bits_per_byte.reset();
  CHECK(blend_of({known, words}, 7).loss == 3.0);
  CHECK(blend_of({known, words}, 7).step == 7);
  CHECK_FALSE(blend_of({known, words}, 7).bits_per_byte);
  CHECK(blend_of({known, masked}, 7).loss == 2.0);
  CHECK(blend_of({known, masked}, 7).bits_per_byte == 3.0);
  CHECK_FALSE(blend_of({masked}, 7).loss);
  CHECK_FALSE(blend_of({masked}, 7).bits_per_byte);
}

TEST_CASE("a run says what it reads of every source", "[validation]") {
  Bed bed;
  write_pair(bed.dir / "s-1", TokenDType::kU8, {counting(0, 60)});
  write_pair(bed.dir / "s-2", TokenDType::kU8, {counting(0, 40)});
  write_pair(bed.dir / "s-3", TokenDType::kU8, {counting(0, 9)});
  const std::string train =
      fmt::format("[{{path: {}, weight: 3}}, {{path: {}}}]", bed.dir / "a", bed.dir / "s-*");
  const RunConfig config =
      parse_run_config(bed.yaml, "test.yaml", {"data.train=" + train, "data.validation_fraction=0"});
  const DataLoader loader(config.data, config.model.vocab_size);
  const DataReport report = describe_data(loader, 65536, 0);
  REQUIRE(report.lines.size() == 2);
  CHECK(report.lines[0] ==
        "train " + bed.dir / "a" +
            ": 75.0 % of the blend, 20.0k tokens, 49,152 samples in this run: 39.4 epochs");
  CHECK(report.lines[1] ==
        "train " + bed.dir / "s-*" +
            " (3 files, 1 of them too short for a sample): 25.0 % of the blend, 109 tokens, 16,384 "
            "samples in this run: 3277 epochs");
}

TEST_CASE("workers that see other token files end the run", "[validation][ranks]") {
  Bed bed;
  const std::string message = message_of(ExitCode::kData, [&] {
    test::run_ranks(2, [&](Communicator& world) {
      const std::string mine = bed.dir / (world.rank() == 0 ? "a" : "c");
      RunConfig config =
          parse_run_config(bed.yaml, "test.yaml", {"data.train.0.path=" + mine}, {.world = world.size()});
      PhaseClock clock;
      train(config, world, clock, {});
    });
  });
  CHECK(contains(message, "worker 1 sees other token files than worker 0"));
}

TEST_CASE("the samples of a run are known at its start", "[validation]") {
  TrainConfig config;
  config.global_batch_size = 24, config.batch_ramp_start = 4, config.batch_ramp_samples = 300;
  for (const std::uint64_t from : {0, 100, 280, 1000}) {
    std::uint64_t consumed = from;
    for (std::int64_t steps = 0; steps < 60; ++steps) {
      CHECK(samples_after(config, from, steps) == consumed);
      consumed += static_cast<std::uint64_t>(batch_size_at(config, consumed));
    }
  }
}

TEST_CASE("a run on a pattern goes on with the same files only", "[validation]") {
  Bed bed;
  std::filesystem::create_directory(bed.dir / "shards");
  test::write_corpus(bed.dir / "shards/s-1", 6000);
  test::write_corpus(bed.dir / "shards/s-2", 5000);
  const std::vector<std::string> overrides = {
      "data.train=[{path: " + (bed.dir / "shards/s-*") + ", weight: size}]", "train.steps=4"};
  test::train(1, bed.yaml, overrides);
  std::ifstream file(bed.dir / "run/passport.json");
  const json passport = json::parse(file);
  CHECK(contains(passport["sources"].get<std::string>(), "shards/s-*: share 1, 2 files, 9900 tokens"));
  test::write_corpus(bed.dir / "shards/s-3", 500);
  std::vector<std::string> more = overrides;
  more.emplace_back("train.steps=8");
  CHECK(contains(message_of(ExitCode::kData, [&] { test::train(1, bed.yaml, more); }),
                 "token files are not those"));
  more.emplace_back("data.allow_change=true");
  CHECK(test::train(1, bed.yaml, more) == ExitCode::kOk);
}

}  // namespace jevons
