// Scoring on a GPU: weights alone against a worker of training there, and against the CPU.
#include "trainer/step/score.h"

#include "tests/cuda/training/named_weights.h"
#include "tests/cuda/training/run.h"
#include "trainer/step/inference.h"
#include "trainer/step/run_state.h"

namespace jevons::test {
namespace {

TokenRows some_rows() {
  TokenRows rows{.length = 16, .tokens = std::vector<std::int32_t>(48), .lengths = {16, 1, 9}, .bytes = {}};
  const RandomStream random(3, "rows");
  for (std::size_t i = 0; i < rows.tokens.size(); ++i)
    rows.tokens[i] = static_cast<std::int32_t>(random.below(i, 64));
  return rows;
}

// What a worker makes of them: the loss, and the bytes of the logits' file.
struct Scored {
  double loss = 0;
  std::string logits;
};
Scored scored_by(ModelWorker& worker) {
  const TempDir dir;
  const TokenRows rows = some_rows();
  Scored scored{.loss = score(worker, rows).value(), .logits = {}};
  write_logits(worker, rows, dir / "logits.npy");
  scored.logits = read_bytes(dir / "logits.npy");
  return scored;
}

}  // namespace

TEST_CASE("weights alone on a GPU give the loss and logits of a worker of training there", "[training]") {
  RunConfig config = parse_run_config(
      tiny_yaml("corpus", "run"), "test.yaml",
      {"train.precision=bf16", "model.tie_embeddings=true", "model.mtp.depth=1"}, {.world = 1});
  config.threads = 1;
  const auto scored_on = [&](DeviceChoice choice) {
    MetaCommunicator alone(0, 1);
    ComputeDevice device(choice, 0, alone);
    InferenceWorker worker(config, device.world(), device.place(), NamedWeights{});
    const Scored scored = scored_by(worker);
    Worker training(config, device.world(), device.place(), nullptr);
    restore_weights(training, NamedWeights{});
    const Scored by_training = scored_by(training);
    CHECK(scored.loss == by_training.loss);
    CHECK(scored.logits == by_training.logits);
    CHECK(worker.memory().optimizer == 0);
    // bf16 without fp32 gradients beside it, but for norms and the router.
    CHECK(2 * worker.memory().weights_and_grads < training.memory().weights_and_grads);
    return scored.loss;
  };
  const double on_cpu = scored_on(DeviceChoice::kCpu);
  CHECK(on_cpu > 1);
  CHECK(scored_on(DeviceChoice::kCuda) == Approx(on_cpu).epsilon(1e-2));
}

}  // namespace jevons::test
