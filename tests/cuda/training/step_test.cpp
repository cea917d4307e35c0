// Steps of a whole worker on a GPU against the same steps on the CPU: losses, gradient norms, every gradient,
// the figures of the experts.
#include <cmath>

#include "tests/cuda/gpu_bench.h"
#include "tests/cuda/training/run.h"
#include "tests/cuda_emulation/control.h"
#include "trainer/optim/newton_schulz.h"
#include "trainer/step/evaluate.h"

namespace jevons::test {
namespace {

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

// 0 if neither is known.
double difference(const std::optional<double>& a, const std::optional<double>& b) {
  REQUIRE(a.has_value() == b.has_value());
  return std::abs(a.value_or(0) - b.value_or(0));
}

// Activations are bf16 (8 bits) on both devices, rounded after sums of another order.
constexpr double kLossBound = 2e-3, kGradientBound = 5e-2;

void compare_step(Run& cpu, Run& gpu, const StepOutcome& expected, const StepOutcome& got,
                  const std::map<std::string, Values>& start) {
  CHECK(got.target_tokens == expected.target_tokens);
  CHECK(std::abs(got.loss.value() / expected.loss.value() - 1) < kLossBound);
  REQUIRE(got.mtp_losses.size() == expected.mtp_losses.size());
  for (std::size_t k = 0; k < got.mtp_losses.size(); ++k)
    CHECK(std::abs(got.mtp_losses[k].value() / expected.mtp_losses[k].value() - 1) < kLossBound);
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
    CHECK(difference(a.micro_batch_balance, b.micro_batch_balance) < 2e-2);
    CHECK(difference(a.sequence_balance, b.sequence_balance) < 2e-2);
    CHECK(difference(a.global_balance, b.global_balance) < 2e-2);
    CHECK(difference(a.z_loss, b.z_loss) <= 2e-2 * b.z_loss.value_or(0));
    CHECK(a.dropped_slots == b.dropped_slots);
    CHECK(a.max_rows == b.max_rows);
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

TEST_CASE("the same with multi-token prediction", "[training]") {
  compare_devices({"data.document_mask=true", "model.recompute=selective", "model.mtp.depth=2"});
}

TEST_CASE("evaluation on a GPU has the CPU's losses and accepted tokens", "[training]") {
  Run cpu(DeviceChoice::kCpu, {"model.mtp.depth=1", "data.document_mask=true"});
  Run gpu(DeviceChoice::kCuda, {"model.mtp.depth=1", "data.document_mask=true"});
  const auto measure = [](Run& run) {
    return evaluate(run.worker(), 20, [&](std::int64_t round, HostBatch& batch) { run.fill(round, batch); });
  };
  const Evaluation expected = measure(cpu), got = measure(gpu);
  CHECK(std::abs(got.loss.value() / expected.loss.value() - 1) < kLossBound);
  CHECK(std::abs(got.mtp_losses.at(0).value() / expected.mtp_losses.at(0).value() - 1) < kLossBound);
  // A choice between two logits that are almost equal hangs on the last bits.
  CHECK(std::abs(got.mtp_acceptance.value() - expected.mtp_acceptance.value()) < 0.1);
  CHECK(got.mtp_acceptance.value() > 0);
}

TEST_CASE("the same with latent attention", "[training]") {
  std::vector<std::string> overrides = {"model.num_kv_heads=0",          "model.mla.kv_lora_rank=24",
                                        "model.mla.qk_nope_head_dim=16", "model.mla.qk_rope_head_dim=8",
                                        "model.mla.v_head_dim=8",        "model.rope.layout=interleaved"};
  compare_devices(overrides);
  overrides.insert(overrides.end(),
                   {"model.mla.q_lora_rank=40", "model.recompute=selective", "data.document_mask=true"});
  compare_devices(overrides);
  emulation::Settings forward_alone = emulation::settings();
  forward_alone.attention_backward = false;
  const EmulationScope scope(forward_alone);
  overrides.push_back("model.seq_len=12");  // for sizes that had a plan before there is one still
  compare_devices(overrides);
}

TEST_CASE("the same in 32 bits, with heads of odd sizes", "[training]") {
  compare_devices({"train.precision=f32", "model.head_dim=6", "data.document_mask=true"});
}

// The device keeps figures and reports of a step's passes; their memory grows at every 64th.
TEST_CASE("a step of more than 64 passes on a GPU has the CPU's loss", "[training]") {
  if (emulation::checking()) return;  // minutes
  const std::vector<std::string> overrides = {"train.global_batch_size=70"};
  Run cpu(DeviceChoice::kCpu, overrides), gpu(DeviceChoice::kCuda, overrides);
  const StepOutcome expected = cpu.step(0), got = gpu.step(0);
  CHECK(got.target_tokens == expected.target_tokens);
  CHECK(std::abs(*got.loss / *expected.loss - 1) < kLossBound);
  CHECK(std::abs(got.grad_norm / expected.grad_norm - 1) < kGradientBound);
}

TEST_CASE("orthogonalisation on a GPU is the CPU's, to the rounding of bf16", "[training]") {
  for (const Shape shape : {Shape{24, 40}, Shape{40, 24}, Shape{32, 32}}) {
    KernelBench cpu;
    GpuBench gpu;
    cpu.ctx.compute = gpu.ctx.compute = DType::kBF16;
    const Tensor on_cpu = cpu.random(shape, DType::kF32), on_gpu = gpu.upload(on_cpu);
    orthogonalise(cpu.ctx, NewtonSchulz::kEightAndTwo, 1, on_cpu);
    orthogonalise(gpu.ctx, NewtonSchulz::kEightAndTwo, 1, on_gpu);
    CHECK(max_error(gpu.download(on_gpu), to_doubles(on_cpu)) < 0.02);
  }
}

// From the same gradients but for their rounding. What is left of it grows where a matrix is almost singular.
TEST_CASE("Muon and moments in bf16 on a GPU move weights as on the CPU", "[training]") {
  const std::vector<std::string> overrides = {"optimizer.kind=muon", "optimizer.lr=0.01",
                                              "optimizer.clip_norm=1", "optimizer.moments=bf16_stochastic"};
  Run cpu(DeviceChoice::kCpu, overrides), gpu(DeviceChoice::kCuda, overrides);
  const auto start = cpu.weights();
  REQUIRE(start == gpu.weights());
  cpu.step(0), gpu.step(0);
  const auto by_cpu = cpu.weights(), by_gpu = gpu.weights();
  for (const auto& [name, weights] : by_cpu) {
    INFO(name);
    const Values moved = difference(weights, start.at(name)),
                 other = difference(by_gpu.at(name), start.at(name));
    double both = 0, one = 0, two = 0;
    for (std::size_t i = 0; i < moved.size(); ++i)
      both += moved[i] * other[i], one += moved[i] * moved[i], two += other[i] * other[i];
    CHECK(one > 0);
    CHECK(both / std::sqrt(one * two) > 0.9);  // cosine
  }
}

TEST_CASE("the same with a capacity that drops tokens, in chunks", "[training]") {
  compare_devices({"model.moe.capacity_factor=0.75", "model.moe.dispatch_chunks=2"});
}

}  // namespace jevons::test
