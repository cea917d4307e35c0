#include "trainer/model/model.h"

#include "kernels/optimizer.h"
#include "tests/model/grad_check.h"
#include "tests/support/tensor_parallel.h"
#include "tests/support/tiny_model.h"
#include "trainer/model/balance.h"

namespace jevons::test {
namespace {

// A batch of two sequences with masked targets and a second document in each.
MicroBatch batch_of(TestBed& bed, const ModelConfig& config) {
  MicroBatch batch = random_batch(bed, config, 2, "batch", 5);
  batch.doc_start = sequences_of(bed, 2, config.seq_len, 3).doc_start;
  return batch;
}

}  // namespace

TEST_CASE("dense model: gradients", "[model]") {
  ModelConfig config = tiny_dense();
  config.recompute = GENERATE(Recompute::kNone, Recompute::kSelective, Recompute::kFull);
  config.tie_embeddings = GENERATE(false, true);
  MetaCommunicator world(0, 1);
  TestBed bed(world);
  Model model(bed.store, config);
  bed.place_weights();
  const MicroBatch batch = batch_of(bed, config);
  Model::Saved saved;
  GradProblem problem;
  problem.loss = [&](const Context& ctx) { return 0.2 * forward_loss(ctx, model, batch, saved); };
  problem.backward = [&](const Context& ctx) {
    model.backward(ctx, saved, {.token = 0.2});
    return std::vector<Tensor>{};
  };
  check_gradients(bed, problem, {.probes = 6});
}

// The scalar is the weighted sum of all losses, whose values Model::end_step reports after a backward pass;
// so the gradients are put aside while the loss is taken.
TEST_CASE("MoE model: gradients of all losses", "[model]") {
  ModelConfig config = tiny_moe();
  config.recompute = GENERATE(Recompute::kNone, Recompute::kSelective, Recompute::kFull);
  config.moe.balance_loss = 0.2;
  config.moe.global_balance_loss = 0.15;
  config.moe.router.score =
      GENERATE(ScoreFunction::kSoftmax, ScoreFunction::kSigmoid, ScoreFunction::kSqrtSoftplus);
  MetaCommunicator world(0, 1);
  TestBed bed(world);
  Model model(bed.store, config);
  bed.place_weights();
  const MicroBatch batch = batch_of(bed, config);
  const LossScales scales{.token = 0.2, .micro_batch = 1, .sequence = 0.5, .position = 1.0 / 16};
  Model::Saved saved;
  GradProblem problem;
  problem.loss = [&](const Context& ctx) {
    double loss = scales.token * forward_loss(ctx, model, batch, saved);
    std::vector<std::vector<double>> gradients;
    for (ParamGroup& group : bed.store.groups()) gradients.push_back(to_vector(group.grads));
    model.backward(ctx, saved, scales);
    for (std::size_t g = 0; g < gradients.size(); ++g) {
      std::copy(gradients[g].begin(), gradients[g].end(), bed.store.groups()[g].grads.ptr<double>());
    }
    for (const LayerHealth& layer : model.end_step(ctx, BiasUpdate::kSkip)) {
      loss += config.moe.balance_loss * layer.micro_batch_balance.value_or(0) +
              config.moe.sequence_balance_loss * layer.sequence_balance.value_or(0) +
              config.moe.global_balance_loss * layer.global_balance.value_or(0) +
              config.moe.z_loss * layer.z_loss.value_or(0);
    }
    return loss;
  };
  problem.backward = [&](const Context& ctx) {
    forward_loss(ctx, model, batch, saved);
    model.backward(ctx, saved, scales);
    model.end_step(ctx, BiasUpdate::kSkip);
    return std::vector<Tensor>{};
  };
  check_gradients(bed, problem, {.probes = 5});
}

TEST_CASE("dense model: tensor parallel equals one worker", "[model][ranks]") {
  ModelConfig config = tiny_dense();
  config.recompute = GENERATE(Recompute::kNone, Recompute::kSelective, Recompute::kFull);
  config.tie_embeddings = GENERATE(false, true);
  check_tensor_parallel(16, 1, {2, 4}, [&](TestBed& bed, Tensor x, Tensor) {
    Model model(bed.store, config);
    bed.place_weights();
    Model::Saved saved;
    const Tensor sum = bed.tensor({1}, DType::kF64);
    model.forward(bed.ctx, batch_of(bed, config), sum, saved);
    model.backward(bed.ctx, saved, {.token = 0.2});
    bed.mesh.stage().all_reduce(sum).wait();
    return ForwardBackward{std::vector<double>(static_cast<std::size_t>(x.rows()), sum.ptr<double>()[0]), {}};
  });
}

TEST_CASE("model: evaluation gives forward's loss and leaves the stash as it was", "[model]") {
  const ModelConfig config = GENERATE(tiny_dense(), tiny_moe());
  MetaCommunicator world(0, 1);
  TestBed bed(world, DType::kF32);
  Model model(bed.store, config);
  bed.place_weights();
  const MicroBatch batch = batch_of(bed, config);
  const double evaluated = evaluated_loss(bed.ctx, model, batch);
  CHECK(bed.stash.used_bytes() == 0);
  CHECK(bed.work.used_bytes() == 0);
  Model::Saved saved;
  CHECK(evaluated == forward_loss(bed.ctx, model, batch, saved));
}

TEST_CASE("model: logits agree with the loss", "[model]") {
  const ModelConfig config = GENERATE(tiny_dense(), tiny_moe());
  MetaCommunicator world(0, 1);
  TestBed bed(world);
  Model model(bed.store, config);
  bed.place_weights();
  const MicroBatch batch = random_batch(bed, config, 1, "batch", 4);
  const Tensor logits = model.logits(bed.ctx, batch.tokens);
  REQUIRE(logits.shape == Shape{config.seq_len, config.vocab_size});
  double loss = 0;
  for (std::int64_t t = 0; t < config.seq_len; ++t) {
    const std::int32_t target = batch.targets.ptr<std::int32_t>()[t];
    if (target < 0) continue;
    double sum = 0;
    for (std::int64_t v = 0; v < config.vocab_size; ++v)
      sum += std::exp(element(logits, t * config.vocab_size + v));
    loss += std::log(sum) - element(logits, t * config.vocab_size + target);
  }
  CHECK(evaluated_loss(bed.ctx, model, batch) == Approx(loss).epsilon(1e-12));
}

namespace {

// Peaks of stash and work in bytes, and FLOPs, of one micro-batch on rank 0.
std::vector<double> measure(Communicator& world, const ModelConfig& config, const Layout& layout,
                            DType compute, Device device) {
  TestBed bed(world, compute, layout, device);
  Model model(bed.store, config);
  bed.store.allocate();
  bed.store.initialize(3);
  const MicroBatch batch = random_batch(bed, config, 2, "batch");
  Model::Saved saved;
  forward_loss(bed.ctx, model, batch, saved);
  const std::vector<double> mtp(static_cast<std::size_t>(config.mtp.depth), 0.3);
  model.backward(bed.ctx, saved, {.token = 1, .mtp = mtp});
  return {static_cast<double>(bed.stash.peak_bytes()), static_cast<double>(bed.work.peak_bytes()),
          bed.meter.total_flops()};
}

}  // namespace

TEST_CASE(
    "model: a dry run predicts both arenas' peaks and the FLOPs exactly, of balanced routing or a capacity",
    "[model][ranks]") {
  ModelConfig config = GENERATE(tiny_dense(), tiny_moe());
  config.mtp.depth = GENERATE(0, 2);
  config.recompute = GENERATE(Recompute::kNone, Recompute::kSelective, Recompute::kFull);
  config.moe.capacity_factor = GENERATE(0.0, 0.9);
  if (config.moe.capacity_factor == 0)
    config.moe.router.top_k = config.moe.router.num_experts;  // every token to every expert
  config.moe.dispatch_chunks = GENERATE(1, 3);
  const DType compute = GENERATE(DType::kF32, DType::kBF16);
  const Layout layout = GENERATE(Layout{}, Layout{.tp = 2}, Layout{.dp = 2, .ep = 2});
  MetaCommunicator meta_world(0, layout.world());
  const std::vector<double> predicted = measure(meta_world, config, layout, compute, Device::kMeta);
  const auto real = run_ranks(layout.world(), [&](Communicator& world) {
    return measure(world, config, layout, compute, Device::kCpu);
  });
  CHECK(predicted == real[0]);
}

TEST_CASE("model: training lowers the loss, in bf16 close to f32", "[model]") {
  ModelConfig config = GENERATE(tiny_dense(), tiny_moe());
  config.init_std = 0.1;
  // Plain SGD on one batch with masters in f32; returns the mean loss before every step.
  const auto train = [&](DType compute) {
    MetaCommunicator world(0, 1);
    TestBed bed(world, compute);
    Model model(bed.store, config);
    bed.store.allocate();
    bed.store.initialize(3);
    std::vector<OptimizerRange> ranges;
    for (ParamGroup& group : bed.store.groups()) {
      const Tensor master = bed.tensor({group.numel}, DType::kF32);
      for (std::int64_t i = 0; i < group.numel; ++i) {
        master.ptr<float>()[i] = static_cast<float>(element(group.weights, i));
      }
      ranges.push_back(
          {.master = master, .moment1 = {}, .moment2 = {}, .grad = group.grads, .weight = group.weights});
    }
    const MicroBatch batch = random_batch(bed, config, 2, "batch");
    const auto targets = static_cast<double>(count_targets(batch));
    std::vector<double> losses;
    for (int step = 0; step < 40; ++step) {
      bed.stash.reset();
      bed.work.reset();
      Model::Saved saved;
      losses.push_back(forward_loss(bed.ctx, model, batch, saved) / targets);
      const LossScales scales{
          .token = 1.0 / targets, .micro_batch = 1, .sequence = 0.5, .position = 1.0 / 16};
      model.backward(bed.ctx, saved, scales);
      model.end_step(bed.ctx, BiasUpdate::kApply);
      for (const OptimizerRange& range : ranges) sgd_step(bed.ctx, {.lr = 0.5}, range);
      bed.store.zero_grads(bed.ctx);
    }
    return losses;
  };
  const std::vector<double> f32 = train(DType::kF32), bf16 = train(DType::kBF16);
  CHECK(f32.front() == Approx(std::log(20.0)).margin(0.3));
  CHECK(f32.back() < 0.7 * f32.front());
  for (std::size_t step = 0; step < f32.size(); ++step) CHECK(bf16[step] == Approx(f32[step]).margin(0.1));
}

}  // namespace jevons::test
