// Steps of a whole worker on a GPU against the same steps on the CPU: losses, gradient norms, every gradient,
// the figures of the experts. Plain gradient descent at rate 1, so that a weight's change is its gradient.
#include <cmath>

#include "kernels/core/rng.h"
#include "parallel/meta/meta_communicator.h"
#include "tests/cuda_emulation/control.h"
#include "tests/trainer/training_run.h"
#include "trainer/compute_device.h"

namespace jevons::test {
namespace {

using Values = std::vector<float>;

// One worker and its steps on `choice`.
class Run {
 public:
  Run(DeviceChoice choice, const std::vector<std::string>& overrides)
      : config_(config_with(overrides)),
        alone_(0, 1),
        device_(choice, 0, alone_),
        worker_(config_, device_.world(), device_.place(), &clock_) {}

  StepOutcome step(std::int64_t index) {
    const std::int64_t sequences = config_.train.global_batch_size, length = config_.model.seq_len;
    HostBatch batch(sequences, length, worker_.ctx().device);
    const RandomStream random(static_cast<std::uint64_t>(index), "tokens");
    for (std::size_t i = 0; i < batch.tokens.size(); ++i) {
      const auto position = static_cast<std::int32_t>(i) % static_cast<std::int32_t>(length);
      batch.tokens[i] = static_cast<std::int32_t>(random.below(2 * i, 64));
      batch.targets[i] = i % 7 == 3 ? -1 : static_cast<std::int32_t>(random.below(2 * i + 1, 64));
      batch.doc_start[i] = position >= 5 ? 5 : 0;
    }
    return train_step(worker_, batch,
                      {.global_sequences = sequences, .optimizer_step = index + 1, .lr = config_.optim.lr});
  }

  // fp32 weights by name.
  std::map<std::string, Values> weights() {
    std::map<std::string, Values> result;
    ParamStore& store = worker_.store();
    for (ParamId id = 0; id < store.params().size(); ++id) {
      const Param& p = store.params()[id];
      const Tensor master = worker_.optimizer().groups()[store.group_of(id)].master.slice(
          p.flat_begin, p.flat_begin + p.local_shape.numel());
      Values& values = result[p.spec.name];
      values.resize(static_cast<std::size_t>(master.numel()));
      copy_and_wait(worker_.ctx().stream, {values.data(), master.shape, master.dtype, Device::kCpu}, master);
    }
    return result;
  }

  Worker& worker() { return worker_; }

 private:
  static RunConfig config_with(std::vector<std::string> overrides) {
    for (const char* fixed :
         {"train.precision=bf16", "optimizer.kind=sgd", "optimizer.lr=1", "optimizer.clip_norm=0",
          "train.global_batch_size=2", "train.micro_batch_size=1", "model.init_std=0.2"})
      overrides.insert(overrides.begin(), fixed);
    RunConfig config = parse_run_config(tiny_yaml("corpus", "run"), "test.yaml", overrides);
    validate_for_world(config, 1);
    validate_for_gpu(config);
    config.threads = 1;
    return config;
  }

  RunConfig config_;
  MetaCommunicator alone_;
  ComputeDevice device_;
  PhaseClock clock_;
  Worker worker_;
};

double largest(const Values& values) {
  double most = 0;
  for (const float v : values) most = std::max(most, std::abs(static_cast<double>(v)));
  return most;
}

Values difference(const Values& a, const Values& b) {
  Values result(a.size());
  for (std::size_t i = 0; i < a.size(); ++i) result[i] = a[i] - b[i];
  return result;
}

// Activations are bf16 (8 bits) on both devices, rounded after sums of another order.
constexpr double kLossBound = 2e-3, kGradientBound = 5e-2;

void compare_step(Run& cpu, Run& gpu, const StepOutcome& expected, const StepOutcome& got,
                  const std::map<std::string, Values>& start) {
  CHECK(got.target_tokens == expected.target_tokens);
  CHECK(std::abs(got.loss / expected.loss - 1) < kLossBound);
  CHECK(std::abs(got.grad_norm / expected.grad_norm - 1) < kGradientBound);
  const auto by_cpu = cpu.weights(), by_gpu = gpu.weights();
  for (const auto& [name, weights] : by_cpu) {
    INFO(name);
    const double scale = largest(difference(weights, start.at(name)));
    CHECK(scale > 0);
    CHECK(largest(difference(weights, by_gpu.at(name))) < kGradientBound * scale);
  }
  for (std::size_t i = 0; i < got.layers.size(); ++i) {
    const LayerHealth &a = got.layers[i], &b = expected.layers[i];
    CHECK(std::abs(a.router_entropy - b.router_entropy) < 1e-2);
    CHECK(std::abs(a.micro_batch_balance - b.micro_batch_balance) < 2e-2);
    CHECK(std::abs(a.sequence_balance - b.sequence_balance) < 2e-2);
    CHECK(std::abs(a.global_balance - b.global_balance) < 2e-2);
    CHECK(std::abs(a.z_loss - b.z_loss) < 2e-2 * b.z_loss);
  }
}

bool same_loads(const StepOutcome& a, const StepOutcome& b) {
  REQUIRE(a.layers.size() == b.layers.size());
  return std::equal(a.layers.begin(), a.layers.end(), b.layers.begin(),
                    [](const LayerHealth& x, const LayerHealth& y) { return x.load == y.load; });
}

// On the first of a few batches that both devices route alike: where two scores are almost equal, the choice
// of an expert hangs on the last bits, and with it an expert's gradient.
void compare_devices(const std::vector<std::string>& overrides) {
  constexpr int kBatches = 10;
  for (int batch = 0; batch < kBatches; ++batch) {
    Run cpu(DeviceChoice::kCpu, overrides), gpu(DeviceChoice::kCuda, overrides);
    const auto start = cpu.weights();
    REQUIRE(start == gpu.weights());
    const StepOutcome expected = cpu.step(batch), got = gpu.step(batch);
    if (same_loads(expected, got)) return compare_step(cpu, gpu, expected, got, start);
  }
  FAIL("every batch was routed differently on the two devices");
}

}  // namespace

TEST_CASE("a step on a GPU has the CPU's loss, gradients and expert figures", "[training]") {
  compare_devices({});
}

TEST_CASE("the same with documents, recomputation and every balance loss", "[training]") {
  compare_devices({"data.document_mask=true", "model.recompute=full", "model.moe.sequence_balance_loss=0.01",
                   "model.moe.global_balance_loss=0.01", "model.qk_norm=head"});
}

TEST_CASE("steps on a GPU allocate nothing once the second is done", "[training]") {
  Run gpu(DeviceChoice::kCuda, {"optimizer.lr=0.01"});  // the routing hardly changes
  gpu.step(0);
  gpu.step(0);
  const std::int64_t before = emulation::device_allocations();
  gpu.step(0);
  gpu.step(0);
  CHECK(emulation::device_allocations() == before);
}

}  // namespace jevons::test
