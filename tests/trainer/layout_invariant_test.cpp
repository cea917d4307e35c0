// numerics: layout_invariant: losses, gradient norms, balance figures, weights and optimizer state after
// several steps of AdamW have the same bits on every layout. Without it they have not, so the comparison can
// fail.
#include <cmath>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "kernels/core/error.h"
#include "kernels/gemm.h"
#include "tests/support/catch.h"
#include "tests/support/ranks.h"
#include "tests/trainer/training_run.h"
#include "tests/trainer/whole_tensors.h"
#include "trainer/step/evaluate.h"
#include "trainer/step/run_state.h"
#include "trainer/step/train_step.h"

namespace jevons {
namespace {

// What a run leaves behind; doubles compare by value, so equal means equal bits (NaN apart).
struct Trajectory {
  std::vector<double> losses, norms, figures;
  double validation = 0;
  test::WholeTensors state;  // weights, both moments, selection biases; global
};

struct RankResult {
  std::vector<double> losses, norms, figures;
  double validation = 0;
  std::vector<test::Piece> pieces;
  auto fields() { return std::tie(losses, norms, figures, validation, pieces); }
};

struct Setting {
  Layout layout;
  int zero_stage = 0;
  std::int64_t micro_batch = 1;

  std::string to_string() const {
    return fmt::format("{}, zero {}, micro-batch {}", layout.to_string(), zero_stage, micro_batch);
  }
};

RunConfig config_of(const Setting& s, std::int64_t sequences, const std::vector<std::string>& more) {
  std::vector<std::string> overrides = {"model.moe.num_experts=8",
                                        "model.moe.sequence_balance_loss=0.02",
                                        "numerics=layout_invariant",
                                        fmt::format("train.global_batch_size={}", sequences),
                                        fmt::format("train.micro_batch_size={}", s.micro_batch),
                                        fmt::format("parallel.ep={}", s.layout.ep),
                                        fmt::format("parallel.zero_stage={}", s.zero_stage)};
  overrides.insert(overrides.end(), more.begin(), more.end());
  RunConfig config =
      parse_run_config(test::tiny_yaml("corpus", "run"), "test.yaml", overrides, {.world = s.layout.world()});
  return config;
}

// Sequences [first, first + batch.sequences) of an endless stream of random ones, some targets masked.
void fill_batch(const RunConfig& config, std::int64_t first, HostBatch& batch) {
  const RandomStream random(5, "batch");
  for (std::size_t i = 0; i < batch.tokens.size(); ++i) {
    const std::uint64_t at = static_cast<std::uint64_t>(first * config.model.seq_len) + i;
    const auto vocab = static_cast<std::uint64_t>(config.model.vocab_size);
    batch.tokens[i] = static_cast<std::int32_t>(random.below(2 * at, vocab));
    batch.targets[i] = at % 7 == 0 ? -1 : static_cast<std::int32_t>(random.below(2 * at + 1, vocab));
  }
}

void add_figures(const StepOutcome& outcome, RankResult& t) {
  t.losses.push_back(outcome.loss.value()), t.norms.push_back(outcome.grad_norm);
  for (const LayerHealth& h : outcome.layers) {
    t.figures.insert(t.figures.end(),
                     {h.router_entropy, h.micro_batch_balance.value_or(0), h.sequence_balance.value_or(0),
                      h.z_loss.value_or(0), static_cast<double>(h.dropped_slots)});
    t.figures.insert(t.figures.end(), h.load.begin(), h.load.end());
  }
}

Trajectory run(const Setting& s, std::int64_t sequences, const std::vector<std::string>& more,
               int steps = 3) {
  const RunConfig config = config_of(s, sequences, more);
  const auto results = test::run_ranks(s.layout.world(), [&](Communicator& world) {
    RankResult mine;
    Worker worker(config, world, {}, nullptr);
    HostBatch batch(sequences / s.layout.dp, config.model.seq_len, Device::kCpu);
    for (std::int64_t step = 0; step < steps; ++step) {
      fill_batch(config, step * sequences + worker.dp_rank() * batch.sequences, batch);
      const StepOutcome outcome =
          train_step(worker, batch, {.global_sequences = sequences, .optimizer_step = step + 1, .lr = 0.01});
      ENSURE(!outcome.skipped, "step {} was skipped", step);
      add_figures(outcome, mine);
    }
    const std::int64_t rounds = sequences / (s.micro_batch * s.layout.dp);
    const Evaluation found = evaluate(worker, rounds, [&](std::int64_t round, HostBatch& part) {
      fill_batch(config, (round * s.layout.dp + worker.dp_rank()) * s.micro_batch, part);
    });
    mine.validation = found.loss.value();
    for (const auto& loss : found.mtp_losses) mine.figures.push_back(loss.value());
    mine.figures.push_back(found.mtp_acceptance.value_or(-1));
    mine.pieces = test::pieces_of(boxes_to_save(worker));
    return mine;
  });
  const RankResult& first = results[0];
  Trajectory t{first.losses, first.norms, first.figures, first.validation, {}};
  for (const RankResult& rank : results) test::place(rank.pieces, t.state);
  return t;
}

std::string difference(const Trajectory& a, const Trajectory& b) {
  std::string text;
  const auto compare = [&](const char* name, const auto& x, const auto& y) {
    if (x != y) text += fmt::format("{} differ; ", name);
  };
  compare("losses", a.losses, b.losses);
  compare("norms", a.norms, b.norms);
  compare("figures", a.figures, b.figures);
  compare("validation losses", a.validation, b.validation);
  for (const auto& [name, values] : a.state) {
    const auto other = b.state.find(name);
    if (other == b.state.end() || other->second != values) text += name + " differs; ";
  }
  if (a.state.size() != b.state.size()) text += "other tensors; ";
  return text;
}

const std::vector<Layout> kLayouts = {
    {}, {.dp = 2}, {.dp = 4}, {.dp = 2, .ep = 2}, {.dp = 4, .ep = 2}, {.dp = 4, .ep = 4}, {.dp = 8, .ep = 4}};

bool runs_here(const char* precision) {
  return gemm_backend(DType::kF32).row_invariant &&
         (std::strcmp(precision, "f32") == 0 || gemm_backend(DType::kBF16).row_invariant);
}

}  // namespace

TEST_CASE("layout-invariant numerics: every dp, ep, ZeRO stage and micro-batch gives the same bits",
          "[numerics][ranks]") {
  const char* const precision = GENERATE("f32", "bf16");
  if (!runs_here(precision)) return;
  const std::vector<std::string> more = {fmt::format("train.precision={}", precision)};
  const Trajectory want = run({}, 16, more);
  for (const Layout& layout : kLayouts) {
    for (int zero_stage : {0, 1}) {
      for (std::int64_t micro_batch : {1, 2, 4}) {
        if (16 % (layout.dp * micro_batch) != 0) continue;
        const Setting setting{layout, zero_stage, micro_batch};
        INFO(precision << ", " << setting.to_string());
        CHECK(difference(want, run(setting, 16, more)) == "");
      }
    }
  }
}

TEST_CASE("layout-invariant numerics: batches and groups that are no powers of two", "[numerics][ranks]") {
  if (!runs_here("f32")) return;
  const std::vector<std::string> more = {"model.moe.num_experts=6", "model.recompute=full"};
  const Trajectory want = run({}, 24, more, 2);
  for (const Layout& layout :
       {Layout{.dp = 2}, Layout{.dp = 3, .ep = 3}, Layout{.dp = 4, .ep = 2}, Layout{.dp = 6, .ep = 2},
        Layout{.dp = 6, .ep = 3}, Layout{.dp = 6, .ep = 6}, Layout{.dp = 8}}) {
    INFO(layout.to_string());
    CHECK(difference(want, run({layout, 1, 1}, 24, more, 2)) == "");
  }
}

TEST_CASE("layout-invariant numerics: capacity and balance loss are those of a sequence",
          "[numerics][ranks]") {
  if (!runs_here("f32")) return;
  const std::vector<std::string> more = {"model.moe.capacity_factor=1", "model.moe.balance_loss=0.1"};
  const Trajectory want = run({}, 8, more);
  CHECK(want.losses != run({}, 8, {"model.moe.balance_loss=0.1"}).losses);  // some slots are dropped
  for (const Setting& setting : {Setting{{}, 1, 8}, Setting{{.dp = 4, .ep = 2}, 1, 2}}) {
    INFO(setting.to_string());
    CHECK(difference(want, run(setting, 8, more)) == "");
  }
}

TEST_CASE("layout-invariant numerics: chunks of a sequence on every layout", "[numerics][ranks]") {
  if (!runs_here("f32")) return;
  const std::vector<std::string> more = {"model.moe.dispatch_chunks=3"};
  const Trajectory want = run({}, 8, more);
  for (const Setting& setting :
       {Setting{{}, 1, 8}, Setting{{.dp = 2, .ep = 2}, 1, 2}, Setting{{.dp = 4, .ep = 2}}}) {
    INFO(setting.to_string());
    CHECK(difference(want, run(setting, 8, more)) == "");
  }
}

TEST_CASE("layout-invariant numerics: multi-token prediction on every layout", "[numerics][ranks]") {
  if (!runs_here("f32")) return;
  const std::vector<std::string> more = {"model.mtp.depth=2", "model.recompute=selective"};
  const Trajectory want = run({}, 8, more);
  CHECK(want.state.contains("layers.3.mtp.eh_proj"));
  for (const Setting& setting :
       {Setting{{}, 1, 8}, Setting{{.dp = 2, .ep = 2}, 1, 2}, Setting{{.dp = 4, .ep = 2}}}) {
    INFO(setting.to_string());
    CHECK(difference(want, run(setting, 8, more)) == "");
  }
}

TEST_CASE("layout-invariant numerics: quantile balancing on every layout", "[numerics][ranks]") {
  if (!runs_here("f32")) return;
  const std::vector<std::string> more = {"model.moe.router.score=sigmoid",
                                         "model.moe.router.bias_rule=quantile"};
  const Trajectory want = run({}, 8, more);
  CHECK(difference(want, run({}, 8, {"model.moe.router.score=sigmoid"})) != "");
  for (const Setting& setting :
       {Setting{{}, 1, 8}, Setting{{.dp = 2, .ep = 2}, 1, 2}, Setting{{.dp = 4, .ep = 2}}}) {
    INFO(setting.to_string());
    CHECK(difference(want, run(setting, 8, more)) == "");
  }
}

TEST_CASE("standard numerics: near the layout-invariant ones, and layouts differ in bits",
          "[numerics][ranks]") {
  if (!gemm_backend(DType::kF32).row_invariant) return;
  const std::vector<std::string> standard = {"numerics=standard", "model.moe.balance_loss=0"};
  const Trajectory want = run({}, 16, {"model.moe.balance_loss=0"});
  for (const Setting& setting : {Setting{{}, 0, 1}, Setting{{}, 0, 4}, Setting{{.dp = 4, .ep = 2}, 1, 1}}) {
    INFO(setting.to_string());
    const Trajectory got = run(setting, 16, standard);
    CHECK(difference(want, got) != "");
    for (std::size_t i = 0; i < want.losses.size(); ++i) {
      CHECK(std::abs(got.losses[i] - want.losses[i]) < 2e-5);
      CHECK(got.norms[i] == Approx(want.norms[i]).epsilon(1e-4));
    }
  }
}

TEST_CASE("layout-invariant numerics: what stands against it is refused", "[numerics]") {
  const auto refusal = [](const std::vector<std::string>& more) {
    return message_of(ExitCode::kUsage, [&] { config_of({}, 8, more); });
  };
  CHECK(contains(refusal({"parallel.tp=2"}), "numerics = layout_invariant cannot be had with parallel.tp"));
  CHECK(contains(refusal({"model.moe.global_balance_loss=0.1"}), "use sequence_balance_loss"));
  CHECK(contains(refusal({"model.moe.reduce_at_expert=true"}), "model.moe.reduce_at_expert"));
  CHECK(contains(refusal({"device=cuda"}), "use cpu"));
  const std::string engine = message_of(
      ExitCode::kUsage, [] { require_row_invariance({.name = "openblas", .row_invariant = false}); });
  CHECK(contains(engine, "products on this CPU are by openblas"));
  if (gemm_backend(DType::kF32).row_invariant)
    CHECK_NOTHROW(require_row_invariance(gemm_backend(DType::kF32)));
}

}  // namespace jevons
