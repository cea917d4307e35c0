// A pipeline changes no bit: losses, every gradient of step 1, and weights, moments and selection biases
// after ten steps equal those without one, for every schedule, on layouts that have other axes too. Without
// clipping, as the norm's sum over ranks is a sum of doubles in another order.
#include <fmt/format.h>

#include "kernels/gemm.h"
#include "tests/golden/tiny_runs.h"
#include "tests/support/catch.h"
#include "tests/support/ranks.h"

namespace jevons::test {
namespace {

struct Pipeline {
  int pp = 2;
  const char* schedule = "1f1b";
  std::vector<std::string> more{};  // options

  std::vector<std::string> options() const {
    std::vector<std::string> all = more;
    all.push_back(fmt::format("parallel.schedule={}", schedule));
    return all;
  }
};

TinyRun run_called(const std::string& family, const std::string& name) {
  for (TinyRun& run : tiny_runs(family)) {
    if (run.model == name) return run;
  }
  FAIL("no run " << name);
  return {};
}

void expect_same_bits(const Numbers& got, const Numbers& want) {
  CHECK(got.losses == want.losses);
  CHECK(got.validation == want.validation);
  CHECK(got.gradients == want.gradients);
  CHECK(got.state == want.state);
  CHECK(std::abs(got.grad_norm - want.grad_norm) <= 1e-13 * want.grad_norm);
}

// Each pipeline against the same layout without it.
void check_pipelines(const TinyRun& run, Layout layout, const std::vector<std::string>& common,
                     const std::vector<Pipeline>& pipelines) {
  std::vector<std::string> options = {"optimizer.clip_norm=0", "train.micro_batch_size=1"};
  options.insert(options.end(), common.begin(), common.end());
  const Numbers want = numbers_of(run, layout, options);
  for (const Pipeline& pipeline : pipelines) {
    layout.pp = pipeline.pp;
    std::vector<std::string> all = options;
    for (const std::string& option : pipeline.options()) all.push_back(option);
    INFO(run.model << " on " << layout.to_string() << ", " << fmt::format("{}", fmt::join(all, " ")));
    expect_same_bits(numbers_of(run, layout, all), want);
  }
}

const std::vector<Pipeline> kOverTwo = {
    {2, "1f1b"},
    {2, "interleaved"},
    {2, "interleaved", {"parallel.virtual_stages=4"}},
    {2, "interleaved", {"parallel.pairs=true"}},
    {2, "zb_h1"},
    {2, "zb_v"},
    {2, "dualpipe_v"},
};
const std::vector<Pipeline> kOverFour = {
    {4, "1f1b"}, {4, "interleaved"}, {4, "zb_h1"}, {4, "zb_v"}, {4, "dualpipe_v"}};

std::vector<std::string> with_layers(int layers, const char* precision) {
  return {fmt::format("model.num_layers={}", layers), fmt::format("train.precision={}", precision)};
}

}  // namespace

TEST_CASE("pipeline: experts, a dense first layer, a tied head, in every schedule", "[pipeline][ranks]") {
  const char* const precision = GENERATE("f32", "bf16");
  const TinyRun run = run_called("moe", "sigmoid");
  check_pipelines(run, {}, with_layers(8, precision), kOverTwo);
  check_pipelines(run, {}, with_layers(8, precision), kOverFour);
}

TEST_CASE("pipeline: beside each other axis, in every schedule", "[pipeline][ranks]") {
  const TinyRun run = run_called("moe", "sigmoid");
  const Layout layout = GENERATE(Layout{.dp = 2}, Layout{.tp = 2}, Layout{.dp = 2, .ep = 2}, Layout{.cp = 2});
  std::vector<Pipeline> all = kOverTwo;
  for (const Pipeline& four : kOverFour) {
    // DualPipeV wants two micro-batches for each rank, and a step has eight in all.
    if (layout.dp == 1 || std::string(four.schedule) != "dualpipe_v") all.push_back(four);
  }
  check_pipelines(run, layout, with_layers(8, "f32"), all);
}

TEST_CASE("pipeline: beside several axes", "[pipeline][ranks]") {
  const TinyRun run = run_called("moe", "sigmoid");
  const Layout layout = GENERATE(Layout{.tp = 2, .ep = 2}, Layout{.dp = 2, .tp = 2, .ep = 4});
  check_pipelines(run, layout, with_layers(4, "bf16"), {{2, "1f1b"}, {2, "interleaved"}, {2, "zb_v"}});
}

TEST_CASE("pipeline: beside context parallelism", "[pipeline][ranks]") {
  check_pipelines(
      run_called("moe", "latent"), {.ep = 2, .cp = 2}, with_layers(4, "bf16"),
      {{2, "1f1b"}, {2, "interleaved", {"parallel.pairs=true"}}, {2, "dualpipe_v"}, {4, "zb_h1"}});
  check_pipelines(run_called("moe", "mtp"), {.tp = 2, .ep = 4, .cp = 2}, with_layers(4, "f32"),
                  {{2, "zb_v"}, {2, "interleaved"}});
}

TEST_CASE("pipeline: multi-token prediction on the last stage", "[pipeline][ranks]") {
  check_pipelines(run_called("dense", "mtp"), {}, with_layers(8, "f32"), kOverTwo);
  const TinyRun tied = run_called("moe", "mtp");
  check_pipelines(tied, {}, with_layers(8, "bf16"), kOverFour);
  check_pipelines(tied, {.dp = 2, .ep = 2}, with_layers(4, "f32"), {{2, "1f1b"}, {2, "zb_v"}});
}

TEST_CASE("pipeline: latent attention, quantile balancing, ZeRO off", "[pipeline][ranks]") {
  check_pipelines(run_called("moe", "latent"), {.tp = 2}, with_layers(4, "f32"),
                  {{2, "zb_h1"}, {2, "dualpipe_v"}, {4, "1f1b"}});
  check_pipelines(run_called("moe", "quantile"), {.dp = 2, .ep = 2}, with_layers(4, "f32"),
                  {{2, "zb_v"}, {2, "interleaved"}});
  check_pipelines(run_called("dense", "tied"), {.dp = 2}, {"model.num_layers=4", "parallel.zero_stage=0"},
                  {{2, "interleaved"}, {4, "1f1b"}});
}

TEST_CASE("pipeline: Muon, QK-clip, moments in bf16", "[pipeline][ranks]") {
  check_pipelines(run_called("moe", "muon"), {.dp = 2, .ep = 2}, with_layers(4, "f32"), {{2, "zb_v"}});
  std::vector<std::string> options = with_layers(4, "f32");
  options.insert(options.end(),
                 {"optimizer.kind=muon", "optimizer.moments=bf16_stochastic", "optimizer.qk_clip=0.5"});
  check_pipelines(run_called("dense", "untied"), {.tp = 2}, options, {{2, "1f1b"}, {2, "zb_h1"}});
}

TEST_CASE("pipeline: uneven stages, as many as layers", "[pipeline][ranks]") {
  check_pipelines(run_called("dense", "untied"), {}, {"model.num_layers=5"},
                  {{2, "1f1b", {"parallel.stage_layers=4 1"}},
                   {2, "zb_v", {"parallel.stage_layers=1 2 1 1"}},
                   {4, "1f1b", {"parallel.stage_layers=1 1 1 2"}},
                   {5, "zb_h1"}});
}

TEST_CASE("pipeline: layout-invariant numerics on any pp", "[pipeline][numerics][ranks]") {
  if (!gemm_backend(DType::kF32).row_invariant) return;
  const TinyRun run = run_called("moe", "layout-invariant");
  const std::vector<std::string> options = {"model.num_layers=4", "train.micro_batch_size=1",
                                            "model.tie_embeddings=true"};
  const Numbers want = numbers_of(run, {}, options);
  const auto check = [&](const Layout& layout, const char* schedule) {
    std::vector<std::string> all = options;
    all.push_back(fmt::format("parallel.schedule={}", schedule));
    INFO(layout.to_string() << ", " << schedule);
    const Numbers got = numbers_of(run, layout, all);
    expect_same_bits(got, want);
    CHECK(got.grad_norm == want.grad_norm);
  };
  check({.pp = 2}, "1f1b");
  check({.dp = 2, .ep = 2, .pp = 2}, "zb_h1");
  check({.dp = 2, .pp = 2}, "zb_v");
  check({.dp = 2, .pp = 4}, "1f1b");
}

}  // namespace jevons::test
