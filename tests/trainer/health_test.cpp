// Numbers that go wrong: the tensor and the rank are named, nothing bad is trained on or saved.
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>

#include "kernels/gemm.h"
#include "tests/data/temp_files.h"
#include "tests/support/catch.h"
#include "tests/trainer/training_run.h"
#include "trainer/checkpoint/retention.h"
#include "trainer/checkpoint/saver.h"
#include "trainer/run/loss_spikes.h"
#include "trainer/step/evaluate.h"
#include "trainer/step/find_nonfinite.h"
#include "trainer/step/replica_check.h"
#include "trainer/step/run_state.h"
#include "trainer/step/train_step.h"

namespace jevons {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Runs body(worker) on ranks with the tiny model; returns its results.
template <class Body>
auto run_workers(int world_size, const std::vector<std::string>& overrides, Body body) {
  return test::run_ranks(world_size, [&](Communicator& world) {
    RunConfig config =
        parse_run_config(test::tiny_yaml("none", "none"), "test.yaml", overrides, {.world = world.size()});
    Worker worker(config, world, {}, nullptr);
    return body(worker);
  });
}

HostBatch some_batch(Worker& worker) {
  const std::int64_t length = worker.config().model.seq_len;
  HostBatch batch(2, length, Device::kCpu);
  for (std::size_t i = 0; i < batch.tokens.size(); ++i) {
    batch.tokens[i] = static_cast<std::int32_t>((7 * i + static_cast<std::size_t>(worker.dp_rank())) % 64);
    batch.targets[i] = (batch.tokens[i] * 5 + 3) % 64;
  }
  return batch;
}

StepOutcome one_step(Worker& worker) {
  return train_step(worker, some_batch(worker), {.global_sequences = 2 * worker.dp_size(), .lr = 0.01});
}

ParamId id_of(Worker& worker, const std::string& name) {
  const auto params = worker.store().params();
  for (ParamId id = 0; id < params.size(); ++id) {
    if (params[id].spec.name == name) return id;
  }
  fail(ExitCode::kFailure, "no {}", name);
}

// Writes `value` to the weight's first element on one rank.
void poison(Worker& worker, int rank, const std::string& name, float value = kNan) {
  if (worker.mesh().world().rank() == rank) {
    worker.store().weight(id_of(worker, name)).ptr<float>()[0] = value;
  }
}

// What the ranks, which must agree on it, say of a step with a poisoned weight.
std::string origin_with(int rank, const std::string& name, const std::vector<std::string>& more = {}) {
  std::vector<std::string> options = {"parallel.ep=2"};
  options.insert(options.end(), more.begin(), more.end());
  const auto said = run_workers(2, options, [&](Worker& worker) {
    poison(worker, rank, name);
    const StepOutcome outcome = one_step(worker);
    ENSURE(outcome.skipped && !outcome.spike, "not skipped");
    return outcome.origin;
  });
  CHECK(said[0] == said[1]);
  return said[0];
}

}  // namespace

TEST_CASE("a step that is not finite names the tensor and the rank where it began", "[health][ranks]") {
  CHECK(origin_with(1, "layers.1.moe.router") ==
        "rank 1: router logits of layer 1, 16 of 64 values, micro-batch 0");
  CHECK(contains(origin_with(0, "layers.0.ffn.down"), "rank 0: output of layer 0, "));
  CHECK(contains(origin_with(1, "layers.1.attn.o"), "rank 1: router logits of layer 1, 64 of 64"));
  CHECK(contains(origin_with(1, "lm_head"), "rank 1: logits or loss, micro-batch 0"));
  const std::vector<std::string> mtp = {"model.mtp.depth=2"};
  CHECK(contains(origin_with(1, "layers.3.mtp.eh_proj", mtp),
                 "rank 1: input of layer 3 (multi-token prediction), "));
  CHECK(contains(origin_with(0, "layers.2.moe.router", mtp), "rank 0: router logits of layer 2, 16 of 64"));
  CHECK(contains(origin_with(1, "layers.2.moe.shared.down", mtp), "rank 1: output of layer 2, "));
  CHECK(contains(origin_with(1, "layers.3.mtp.norm", mtp),
                 "rank 1: logits or loss of multi-token prediction, depth 1, micro-batch 0"));
}

TEST_CASE("a gradient that overflows on one rank is named", "[health][ranks]") {
  run_workers(2, {}, [&](Worker& worker) {
    const HostBatch batch = some_batch(worker);
    const auto view = [&](std::span<std::int32_t> ids) {
      return Tensor{ids.data(), {16}, DType::kI32, Device::kCpu};
    };
    StepInputs inputs{.program = worker.plan().training(1),
                      .read =
                          [&](const Context&, std::int64_t) {
                            return MicroBatch{view(batch.tokens), view(batch.targets), {}};
                          },
                      .scales = {}};
    const std::string clean = find_nonfinite(worker, inputs);
    ENSURE(clean.find("computed once more, the step is finite") == 0, "{}", clean);

    worker.store().zero_grads(worker.ctx());
    if (worker.mesh().world().rank() == 1) inputs.scales.token = 3e38;
    const std::string local = find_nonfinite(worker, inputs);
    ENSURE(local.find("rank 1: gradient of lm_head, ") == 0, "{}", local);

    // Only in what was summed: the replay has no fault.
    worker.store().zero_grads(worker.ctx());
    inputs.scales.token = 1;
    const ParamGroup& group = worker.store().groups()[0];
    if (worker.mesh().world().rank() == 1) group.grads.ptr<float>()[group.shard_begin()] = kNan;
    const std::string summed = find_nonfinite(worker, inputs);
    ENSURE(summed.find("only the sum over all ranks overflows, rank 1: gradient of ") == 0, "{}", summed);
  });
}

TEST_CASE("a bad step changes nothing, and the next good one is as if it had not been", "[health][ranks]") {
  const auto figures_of = [](const StepOutcome& outcome) {
    std::vector<double> figures{outcome.loss.value(), outcome.grad_norm, outcome.layers[0].router_entropy};
    figures.insert(figures.end(), outcome.layers[0].load.begin(), outcome.layers[0].load.end());
    return figures;
  };
  const auto clean =
      run_workers(2, {"parallel.ep=2"}, [&](Worker& worker) { return figures_of(one_step(worker)); });
  const auto after = run_workers(2, {"parallel.ep=2"}, [&](Worker& worker) {
    const Tensor router = worker.store().weight(id_of(worker, "layers.1.moe.router"));
    const float before = router.ptr<float>()[0];
    poison(worker, 1, "layers.1.moe.router");
    ENSURE(one_step(worker).skipped, "not skipped");
    poison(worker, 1, "layers.1.moe.router", before);
    return figures_of(one_step(worker));
  });
  CHECK(clean[0].size() == 3 + 4);
  CHECK(after == clean);
}

// Weights and moments of this rank, as bits.
std::vector<char> bits_of_state(Worker& worker) {
  std::vector<char> bits;
  for (const TensorBox& box : boxes_to_save(worker)) {
    const auto* bytes = static_cast<const char*>(box.local.data);
    bits.insert(bits.end(), bytes, bytes + box.local.bytes());
  }
  return bits;
}

TEST_CASE("a batch without targets has no loss and changes nothing, on every layout", "[health][ranks]") {
  std::vector<std::vector<std::string>> layouts = {
      {},
      {"parallel.ep=4"},
      {"parallel.tp=2"},
      {"parallel.cp=2", "parallel.ep=2"},
      {"parallel.tp=2", "parallel.ep=2", "parallel.zero_stage=0"}};
  if (gemm_backend(DType::kF32).row_invariant)
    layouts.push_back({"parallel.ep=2", "numerics=layout_invariant"});
  for (const std::vector<std::string>& layout : layouts) {
    INFO(fmt::format("{}", fmt::join(layout, " ")));
    run_workers(4, layout, [&](Worker& worker) {
      HostBatch batch = some_batch(worker);
      const std::vector<std::int32_t> targets(batch.targets.begin(), batch.targets.end());
      const StepPosition position{.global_sequences = 2 * worker.dp_size(), .lr = 0.01};
      std::ranges::fill(batch.targets, -1);
      const std::vector<char> before = bits_of_state(worker);
      const StepOutcome empty = train_step(worker, batch, position);
      ENSURE(!empty.loss && empty.skipped && !empty.spike && empty.origin.empty(), "not without a loss");
      ENSURE(std::isfinite(empty.grad_norm) && empty.target_tokens == 0, "norm {}", empty.grad_norm);
      ENSURE(bits_of_state(worker) == before, "the state has changed");
      const auto without = [](std::int64_t, HostBatch& b) { std::ranges::fill(b.targets, -1); };
      ENSURE(!evaluate(worker, 1, without).loss, "a validation without targets has a loss");
      // A single target on one dp rank is enough for all.
      if (worker.dp_rank() == worker.dp_size() - 1) batch.targets[3] = targets[3];
      const StepOutcome one = train_step(worker, batch, position);
      ENSURE(one.loss && *one.loss > 0 && !one.skipped && one.target_tokens == 1, "no step");
      ENSURE(bits_of_state(worker) != before, "nothing has changed");
    });
  }
}

TEST_CASE("documents of one token: losses are unknown, not 0, and no window takes them", "[health][ranks]") {
  const TempDir dir;
  write_pair(dir / "corpus", TokenDType::kU8, std::vector<std::vector<std::int32_t>>(3000, {7}));
  CHECK(test::train(2, test::tiny_yaml(dir / "corpus", dir / "run"),
                    {"data.document_mask=true", "train.spike_zscore=3", "train.max_bad_steps=1",
                     "checkpoint.keep_last=1", "checkpoint.keep_best=1", "train.steps=5"}) == ExitCode::kOk);
  std::ifstream file(dir / "run/metrics.jsonl");
  int steps = 0, validations = 0;
  for (std::string line; std::getline(file, line);) {
    const auto record = nlohmann::json::parse(line);
    if (record["kind"] == "checkpoint") continue;
    CHECK(record["loss"].is_null());
    record["kind"] == "step" ? ++steps : ++validations;
    CHECK((record["kind"] == "validation" || record["skipped"] == true));
  }
  CHECK(steps == 5);
  CHECK(validations == 1);
  const CheckpointReader reader(find_checkpoint(dir / "run"));
  CHECK(reader.state().optimizer_step == 0);
  CHECK(reader.state().recent_losses.empty());
  CHECK_FALSE(validation_of(reader.state()));
}

TEST_CASE("a weight that is not finite never reaches a checkpoint", "[health][ranks]") {
  const TempDir dir;
  test::write_corpus(dir / "corpus");
  const std::string yaml = test::tiny_yaml(dir / "corpus", dir / "run");
  const std::string config = test::resolved(yaml, {});
  run_workers(2, {}, [&](Worker& worker) {
    poison(worker, 0, "embedding");
    CheckpointSaver saver(worker.mesh().world(), dir / "poisoned");
    TrainState state;
    state.passport = {{"config", config}, {"data", ""}, {"layout", ""}};
    saver.begin(state, boxes_to_save(worker), Originals::kLent);
    saver.commit();
  });
  const std::string message = message_of(ExitCode::kFailure, [&] {
    test::train(2, yaml, {"checkpoint.interval=1", "checkpoint.on_error=continue"},
                {.resume = "never", .init_from = dir / "poisoned", .deadline = {}});
  });
  CHECK(contains(message, "rank 0: embedding, 1 of "));
  CHECK(contains(message, "the checkpoint is not written"));
  CHECK_FALSE(std::filesystem::exists(dir / "run/checkpoints"));
  const std::string stopped = message_of(ExitCode::kFailure, [&] {
    test::train(2, yaml, {"train.on_bad_step=stop"},
                {.resume = "never", .init_from = dir / "poisoned", .deadline = {}});
  });
  CHECK(contains(stopped, "step 1: loss nan and gradient norm nan are not both finite; rank "));
  CHECK(contains(stopped, ": embedding, "));
}

TEST_CASE("the limit for a loss is the window's mean and deviation, once it is full", "[health]") {
  TrainConfig config;
  config.spike_zscore = 3, config.spike_window = 4;
  std::vector<double> window;
  for (double loss : {9.0, 1.0, 3.0, 1.0}) {
    CHECK(std::isinf(spike_limit(config, window)));
    remember_loss(config, loss, window);
  }
  remember_loss(config, 3.0, window);  // the 9 is forgotten
  CHECK(spike_limit(config, window) == 2 + 3 * 1);
  config.spike_zscore = 0;
  CHECK(std::isinf(spike_limit(config, window)));
  remember_loss(config, 1.0, window);
  CHECK(window.empty());
}

TEST_CASE("spikes are skipped, counted and kept apart from the window", "[health][ranks]") {
  const TempDir dir;
  test::write_corpus(dir / "corpus");
  // The learning rate is so low that losses go up as often as down.
  CHECK(test::train(2, test::tiny_yaml(dir / "corpus", dir / "run"),
                    {"train.spike_zscore=0.5", "train.spike_window=3", "train.max_bad_steps=8",
                     "optimizer.lr=1e-9"}) == ExitCode::kOk);
  std::vector<double> window;
  std::int64_t skipped = 0;
  std::ifstream file(dir / "run/metrics.jsonl");
  TrainConfig config;
  config.spike_zscore = 0.5, config.spike_window = 3;
  for (std::string line; std::getline(file, line);) {
    const auto record = nlohmann::json::parse(line);
    if (record["kind"] != "step") continue;
    const bool spike = record["loss"].get<double>() > spike_limit(config, window);
    CHECK(record["spike"] == spike);
    CHECK(record["skipped"] == spike);
    skipped += spike ? 1 : 0;
    CHECK(record["skipped_steps"] == skipped);
    if (!spike) remember_loss(config, record["loss"], window);
  }
  CHECK(skipped > 0);
  const CheckpointReader reader(find_checkpoint(dir / "run"));
  CHECK(reader.state().optimizer_step == 8 - skipped);
  CHECK(reader.state().recent_losses == window);
}

TEST_CASE("the metrics have the spread of the ranks' own time", "[health][ranks]") {
  const TempDir dir;
  test::write_corpus(dir / "corpus");
  CHECK(test::train(2, test::tiny_yaml(dir / "corpus", dir / "run"), {"train.log_interval=3"}) ==
        ExitCode::kOk);
  std::ifstream file(dir / "run/metrics.jsonl");
  int lines = 0;
  for (std::string line; std::getline(file, line);) {
    const auto record = nlohmann::json::parse(line);
    if (record["kind"] != "step") continue;
    const auto& seconds = record["rank_seconds"];
    const double min = seconds["min"], mean = seconds["mean"], max = seconds["max"];
    CHECK(min > 0);
    CHECK(mean == Approx((min + max) / 2).margin(2e-6));  // of two ranks, in whole microseconds
    CHECK((seconds["slowest"] == 0 || seconds["slowest"] == 1));
    ++lines;
  }
  CHECK(lines == 3);  // steps 3, 6, 8
}

TEST_CASE("the metrics have the router's losses that the model has", "[health][ranks]") {
  const TempDir dir;
  test::write_corpus(dir / "corpus");
  CHECK(test::train(2, test::tiny_yaml(dir / "corpus", dir / "run"), {"parallel.ep=2", "train.steps=2"}) ==
        ExitCode::kOk);
  std::ifstream file(dir / "run/metrics.jsonl");
  int lines = 0;
  for (std::string line; std::getline(file, line);) {
    const auto record = nlohmann::json::parse(line);
    if (record["kind"] != "step") continue;
    const auto& layer = record["moe"][0];
    CHECK(layer["balance_loss"].get<double>() >= 0.99);  // 1 at perfect balance
    CHECK(layer["balance_loss"].get<double>() < 4);      // all tokens on one expert
    CHECK(layer["z_loss"].get<double>() > 0);
    CHECK(layer["sequence_balance_loss"].is_null());
    CHECK(layer["global_balance_loss"].is_null());
    // 16 tokens choose 2 of 4 experts, and each of the 2 workers sends as many.
    CHECK(layer["max_rows"].get<int>() >= 32);
    CHECK(layer["max_rows"].get<int>() <= 64);
    ++lines;
  }
  CHECK(lines == 2);
}

// A run whose validation takes longer than its steps; phases and steps are measured by one clock.
TEST_CASE("rates are those of the steps, without validation and saves", "[health]") {
  const TempDir dir;
  test::write_corpus(dir / "corpus", 200000);
  CHECK(test::train(1, test::tiny_yaml(dir / "corpus", dir / "run"),
                    {"train.eval_interval=1", "train.eval_samples=600", "checkpoint.interval=1",
                     "train.steps=6", "checkpoint.asynchronous=false"}) == ExitCode::kOk);
  double steps = 0;
  std::ifstream metrics(dir / "run/metrics.jsonl");
  for (std::string line; std::getline(metrics, line);) {
    const auto record = nlohmann::json::parse(line);
    if (record["kind"] != "step") continue;
    const double seconds = record["step_seconds"];
    steps += seconds;
    CHECK(record["tokens_per_second"].get<double>() == Approx(8 * 16 / seconds));
  }
  std::ifstream ledger(dir / "run/ledger.jsonl");
  std::map<std::string, double> phases;  // the last record's
  for (std::string line; std::getline(ledger, line);) {
    const auto record = nlohmann::json::parse(line, nullptr, false);
    if (record.is_object() && record.contains("device_seconds")) record["device_seconds"].get_to(phases);
  }
  const double all = std::accumulate(phases.begin(), phases.end(), 0.0,
                                     [](double sum, const auto& phase) { return sum + phase.second; });
  const double apart = phases["eval"] + phases["checkpoint"] + phases["init"] + phases["shutdown"];
  INFO("steps " << steps << " s, all " << all << " s, apart " << apart << " s");
  CHECK(phases["eval"] > 0);
  CHECK(steps >= phases["compute"]);
  CHECK(steps <= all - apart);
}

TEST_CASE("replicas that differ in one bit are named with their ranks", "[health][ranks]") {
  const auto flip = [](Worker& worker, int rank, const std::string& name) {
    if (worker.mesh().world().rank() != rank) return;
    auto* bytes = static_cast<unsigned char*>(worker.store().weight(id_of(worker, name)).data);
    bytes[5] ^= 1;
  };
  const auto message_after = [&](const std::vector<std::string>& layout, int rank, const std::string& name) {
    return message_of(ExitCode::kFailure, [&] {
      run_workers(4, layout, [&](Worker& worker) {
        check_replicas(worker);
        one_step(worker);
        check_replicas(worker);
        flip(worker, rank, name);
        check_replicas(worker);
      });
    });
  };
  CHECK(contains(message_after({"parallel.ep=2"}, 2, "layers.0.attn.q"),
                 "replicas of layers.0.attn.q differ: rank 2 against ranks 0, 1, 3"));
  // Experts 2 and 3 live on ranks 1 and 3.
  CHECK(contains(message_after({"parallel.ep=2", "parallel.zero_stage=0"}, 3, "layers.1.moe.experts.2.up"),
                 "replicas of layers.1.moe.experts.2.up differ: rank"));
  // A part that tp splits, over dp.
  CHECK(contains(message_after({"parallel.tp=2", "train.precision=bf16"}, 2, "layers.0.attn.q"),
                 "replicas of layers.0.attn.q differ: rank"));
  const TempDir dir;
  test::write_corpus(dir / "corpus");
  CHECK(test::train(2, test::tiny_yaml(dir / "corpus", dir / "run"), {"train.replica_check_interval=1"}) ==
        ExitCode::kOk);
}

}  // namespace jevons
