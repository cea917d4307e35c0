// One tiny model, one seed, one global batch of eight different sequences, over many layouts: loss, every
// gradient, the gradient norm and the weights after one plain SGD step with learning rate 1, against one
// worker. (Adam would hide a constant factor on the gradients.)
#include <cmath>
#include <vector>

#include "kernels/elementwise.h"
#include "kernels/gemm.h"
#include "kernels/optimizer.h"
#include "parallel/grad_sync.h"
#include "tests/support/catch.h"
#include "tests/support/tensor_parallel.h"
#include "tests/support/tiny_model.h"

namespace jevons::test {
namespace {

constexpr std::int64_t kSequences = 8;
// Every unit's gradients are in buckets of their own.
constexpr std::int64_t kSmallBucket = 1;

struct GridPoint {
  Layout layout;
  int zero_stage = 0;
  std::int64_t micro_batch = 1;  // sequences

  std::string to_string() const {
    return fmt::format("{}, zero {}, micro-batch {}", layout.to_string(), zero_stage, micro_batch);
  }
};

struct StepResult {
  double loss = 0, norm = 0;
  NamedValues gradients, weights;
  std::vector<double> state;  // selection biases after the step
};

// Sequences [first, first + n) of the global batch.
MicroBatch part_of(const MicroBatch& all, const ModelConfig& config, std::int64_t first, std::int64_t n) {
  const std::int64_t begin = first * config.seq_len, end = begin + n * config.seq_len;
  return {.tokens = all.tokens.slice(begin, end), .targets = all.targets.slice(begin, end), .doc_start = {}};
}

// Adds to the gradients; returns the mean loss over the global batch. `sync` as in Model::backward.
double forward_backward(TestBed& bed, Model& model, const GridPoint& point, GradSync* sync = nullptr) {
  const ModelConfig& config = model.config();
  const MicroBatch all = random_batch(bed, config, kSequences, "batch", 5);
  const auto targets = static_cast<double>(count_targets(all));
  const LossScales scales{.token = 1 / targets,
                          .micro_batch = static_cast<double>(point.micro_batch) / kSequences,
                          .sequence = 1.0 / kSequences,
                          .position = 1.0 / static_cast<double>(kSequences * config.seq_len)};
  const std::int64_t mine = kSequences / point.layout.dp, first = bed.mesh.dp().rank() * mine;
  const Tensor sum = bed.tensor({1}, DType::kF64);
  Model::Saved saved;
  for (std::int64_t s = 0; s < mine; s += point.micro_batch) {
    reset_and_poison(bed.stash);
    reset_and_poison(bed.work);
    const MicroBatch batch = part_of(all, config, first + s, point.micro_batch);
    const double evaluated = evaluated_loss(bed.ctx, model, batch);
    const double loss = forward_loss(bed.ctx, model, batch, saved);
    ENSURE(evaluated == loss, "evaluation gives a loss of {}, training {}", evaluated, loss);
    sum.ptr<double>()[0] += loss;
    model.backward(bed.ctx, saved, scales, s + point.micro_batch == mine ? sync : nullptr);
  }
  bed.mesh.tokens().all_reduce(sum).wait();
  return sum.ptr<double>()[0] / targets;
}

std::vector<double> state_of(const Model& model) {
  std::vector<double> values;
  for (const StateTensor& state : model.state()) {
    const std::vector<double> one = to_vector(state.value);
    values.insert(values.end(), one.begin(), one.end());
  }
  return values;
}

// w -= g on what this rank owns, then the weights of all.
void sgd_update(TestBed& bed, GradSync& sync) {
  for (std::size_t g = 0; g < bed.store.groups().size(); ++g) {
    const ParamGroup& group = bed.store.groups()[g];
    const ShardRange range = sync.update_range(g);
    const Tensor weights = group.weights.slice(range.begin, range.begin + range.numel);
    const Tensor grads = group.grads.slice(range.begin, range.begin + range.numel);
    sgd_step(bed.ctx, 1, 1,
             {.master = weights, .moment1 = {}, .moment2 = {}, .grad = grads, .weight = weights});
  }
  sync.gather_weights(bed.ctx);
}

StepResult one_worker(const ModelConfig& config, DType dtype, std::int64_t micro_batch) {
  MetaCommunicator world(0, 1);
  TestBed bed(world, dtype);
  Model model(bed.store, config);
  bed.place_weights();
  StepResult result;
  result.loss = forward_backward(bed, model, {.layout = {}, .micro_batch = micro_batch});
  GradSync sync(bed.store, 0);
  sync.start(bed.ctx);
  sync.finish(bed.ctx);
  result.norm = sync.global_norm(bed.ctx);
  result.gradients = gradients_of(bed.store);
  sgd_update(bed, sync);
  result.weights = weights_of(bed.store);
  model.end_step(bed.ctx, BiasUpdate::kApply);
  result.state = state_of(model);
  return result;
}

// The elements of a rank's parameter that it holds the summed gradient of, against the global ones.
void expect_owned_close(TestBed& bed, const GradSync& sync, const NamedValues& want, double bound) {
  for (ParamId id = 0; id < bed.store.params().size(); ++id) {
    const Param& param = bed.store.params()[id];
    const ShardRange owned = sync.update_range(bed.store.group_of(id));
    const std::vector<double>& global = want.at(param.spec.name);
    const Tensor local = bed.store.grad(id);
    double scale = 1e-30;
    for (double value : global) scale = std::max(scale, std::abs(value));
    for_each_element(param, [&](std::int64_t i, std::int64_t at) {
      const std::int64_t flat = param.flat_begin + i - owned.begin;
      if (flat < 0 || flat >= owned.numel) return;
      const double got = element(local, i), expected = global[static_cast<std::size_t>(at)];
      ENSURE(std::abs(got - expected) <= bound * scale, "gradient of {}[{}] = {}, expected {}",
             param.spec.name, at, got, expected);
    });
  }
}

void expect_weights_close(TestBed& bed, const NamedValues& want, double bound) {
  for (ParamId id = 0; id < bed.store.params().size(); ++id) {
    const Param& param = bed.store.params()[id];
    const std::vector<double>& global = want.at(param.spec.name);
    std::vector<double> mine(static_cast<std::size_t>(param.local_shape.numel()));
    for_each_element(param, [&](std::int64_t i, std::int64_t at) {
      mine[static_cast<std::size_t>(i)] = global[static_cast<std::size_t>(at)];
    });
    expect_close("updated " + param.spec.name, to_vector(bed.store.weight(id)), mine, bound);
  }
}

void check_point(const ModelConfig& config, DType dtype, const GridPoint& point, const StepResult& want,
                 double bound) {
  run_ranks(point.layout.world(), [&](Communicator& world) {
    TestBed bed(world, dtype, point.layout, Device::kCpu, kSmallBucket);
    Model model(bed.store, config);
    bed.place_weights();
    GradSync sync(bed.store, point.zero_stage);
    const double loss = forward_backward(bed, model, point, &sync);
    ENSURE(std::abs(loss - want.loss) <= bound * want.loss, "loss {}, expected {}", loss, want.loss);
    sync.start(bed.ctx);
    sync.finish(bed.ctx);
    expect_owned_close(bed, sync, want.gradients, bound);
    const double norm = sync.global_norm(bed.ctx);
    ENSURE(std::abs(norm - want.norm) <= bound * want.norm, "gradient norm {}, expected {}", norm, want.norm);
    sgd_update(bed, sync);
    expect_weights_close(bed, want.weights, bound);
    model.end_step(bed.ctx, BiasUpdate::kApply);
    ENSURE(state_of(model) == want.state, "the selection biases differ");
  });
}

const std::vector<GridPoint>& grid() {
  static const std::vector<GridPoint> points = {
      {.layout = {}, .micro_batch = 1},
      {.layout = {}, .micro_batch = 2},
      {.layout = {}, .micro_batch = 8},
      {.layout = {.dp = 2}, .zero_stage = 0, .micro_batch = 1},
      {.layout = {.dp = 2}, .zero_stage = 1, .micro_batch = 4},
      {.layout = {.tp = 2}, .zero_stage = 0, .micro_batch = 2},
      {.layout = {.tp = 2}, .zero_stage = 1, .micro_batch = 8},
      {.layout = {.dp = 4}, .zero_stage = 1, .micro_batch = 2},
      {.layout = {.tp = 4}, .zero_stage = 0, .micro_batch = 1},
      {.layout = {.dp = 2, .tp = 2}, .zero_stage = 0, .micro_batch = 1},
      {.layout = {.dp = 2, .tp = 2}, .zero_stage = 1, .micro_batch = 2},
      {.layout = {.dp = 8}, .zero_stage = 1, .micro_batch = 1},
      {.layout = {.dp = 4, .tp = 2}, .zero_stage = 1, .micro_batch = 1},
      {.layout = {.dp = 2, .tp = 4}, .zero_stage = 0, .micro_batch = 2},
  };
  return points;
}

// Relative to the largest element of each tensor. f32: without tp only the order of the sums over tokens
// changes; with tp also that of the sums inside a layer, whose differences the layers above amplify.
double bound_of(DType dtype, const GridPoint& point) {
  if (dtype == DType::kF64) return 1e-12;
  return point.layout.tp == 1 ? 1e-6 : 2e-5;
}

// The same layouts with experts spread over ranks.
std::vector<GridPoint> moe_grid() {
  std::vector<GridPoint> points = grid();
  const std::vector<GridPoint> more = {
      {.layout = {.dp = 2, .ep = 2}, .zero_stage = 0, .micro_batch = 1},
      {.layout = {.dp = 2, .ep = 2}, .zero_stage = 1, .micro_batch = 4},
      {.layout = {.tp = 2, .ep = 2}, .zero_stage = 0, .micro_batch = 8},
      {.layout = {.dp = 4, .ep = 2}, .zero_stage = 1, .micro_batch = 2},
      {.layout = {.dp = 4, .ep = 4}, .zero_stage = 0, .micro_batch = 1},
      {.layout = {.dp = 2, .tp = 2, .ep = 2}, .zero_stage = 1, .micro_batch = 4},
      {.layout = {.dp = 2, .tp = 2, .ep = 4}, .zero_stage = 1, .micro_batch = 1},
      {.layout = {.tp = 4, .ep = 4}, .zero_stage = 0, .micro_batch = 2},
      {.layout = {.dp = 8, .ep = 8}, .zero_stage = 1, .micro_batch = 1},
      {.layout = {.dp = 8, .ep = 2}, .zero_stage = 1, .micro_batch = 1},
      {.layout = {.dp = 4, .tp = 2, .ep = 4}, .zero_stage = 0, .micro_batch = 2},
      {.layout = {.dp = 2, .tp = 4, .ep = 8}, .zero_stage = 1, .micro_batch = 4},
  };
  points.insert(points.end(), more.begin(), more.end());
  return points;
}

void check_points(const ModelConfig& config, DType dtype, const std::vector<GridPoint>& points,
                  const StepResult& want) {
  for (const GridPoint& point : points) {
    INFO(point.to_string());
    CHECK_NOTHROW(check_point(config, dtype, point, want, bound_of(dtype, point)));
  }
}

}  // namespace

TEST_CASE("layout grid: dense model", "[model][layout]") {
  const DType dtype = GENERATE(DType::kF64, DType::kF32);
  check_points(tiny_dense(), dtype, grid(), one_worker(tiny_dense(), dtype, 1));
}

TEST_CASE("layout grid: MoE model with the losses per sequence and per row", "[model][layout]") {
  const DType dtype = GENERATE(DType::kF64, DType::kF32);
  check_points(tiny_moe(), dtype, moe_grid(), one_worker(tiny_moe(), dtype, 1));
}

TEST_CASE("layout grid: MoE model whose tokens travel in chunks", "[model][layout]") {
  const StepResult want = one_worker(tiny_moe(), DType::kF64, 1);
  ModelConfig config = tiny_moe();
  config.moe.dispatch_chunks = 3;  // of 2 to 64 tokens
  config.recompute = GENERATE(Recompute::kNone, Recompute::kFull);
  check_points(config, DType::kF64, moe_grid(), want);
}

// These losses depend on how the global batch is cut, by definition: the same cut is compared.
TEST_CASE("layout grid: MoE model with the balance loss over a micro-batch", "[model][layout]") {
  ModelConfig config = tiny_moe();
  config.moe.balance_loss = 0.3;
  for (std::int64_t micro_batch : {1, 2, 4, 8}) {
    std::vector<GridPoint> points = moe_grid();
    std::erase_if(points, [&](const GridPoint& point) { return point.micro_batch != micro_batch; });
    check_points(config, DType::kF64, points, one_worker(config, DType::kF64, micro_batch));
  }
}

TEST_CASE("layout grid: MoE model with the balance loss over the global batch", "[model][layout]") {
  ModelConfig config = tiny_moe();
  config.moe.global_balance_loss = 0.3;
  std::vector<GridPoint> points = moe_grid();
  std::erase_if(points,
                [](const GridPoint& point) { return point.micro_batch * point.layout.dp != kSequences; });
  CHECK(points.size() >= 5);
  check_points(config, DType::kF64, points, one_worker(config, DType::kF64, kSequences));
}

TEST_CASE("layout grid: recompute modes change no layout's result", "[model][layout]") {
  ModelConfig config = tiny_moe();
  const StepResult want = one_worker(config, DType::kF64, 1);
  config.recompute = GENERATE(Recompute::kSelective, Recompute::kFull);
  const std::vector<GridPoint> points = {
      {.layout = {.dp = 2, .ep = 2}, .zero_stage = 1, .micro_batch = 2},
      {.layout = {.dp = 2, .tp = 2, .ep = 4}, .zero_stage = 1, .micro_batch = 2}};
  check_points(config, DType::kF64, points, want);
}

// Every gradient is the same sum of the same terms, however it is cut into buckets and whenever that sum
// starts.
TEST_CASE("layout grid: buckets summed under the backward pass change no bit", "[model][layout]") {
  const ModelConfig config = tiny_moe();
  const int zero_stage = GENERATE(0, 1);
  const DType dtype = GENERATE(DType::kF32, DType::kBF16);
  const Layout layout = GENERATE(Layout{.dp = 4, .ep = 2}, Layout{.dp = 2, .tp = 2, .ep = 4});
  const GridPoint point{.layout = layout, .zero_stage = zero_stage, .micro_batch = 2};
  struct RankResult {
    NamedValues gradients, weights;
    bool operator==(const RankResult&) const = default;
  };
  std::size_t buckets = 0;
  const auto run = [&](std::int64_t bucket_bytes, bool early) {
    std::vector<RankResult> results(static_cast<std::size_t>(layout.world()));
    run_ranks(layout.world(), [&](Communicator& world) {
      TestBed bed(world, dtype, layout, Device::kCpu, bucket_bytes);
      Model model(bed.store, config);
      bed.place_weights();
      GradSync sync(bed.store, zero_stage);
      forward_backward(bed, model, point, early ? &sync : nullptr);
      sync.start(bed.ctx);
      sync.finish(bed.ctx);
      RankResult& mine = results[static_cast<std::size_t>(world.rank())];
      if (zero_stage == 0) mine.gradients = gradients_of(bed.store);
      for (std::size_t g = 0; g < bed.store.groups().size(); ++g) {  // weights := gradients
        const ParamGroup& group = bed.store.groups()[g];
        const std::int64_t begin = sync.update_range(g).begin, end = begin + sync.update_range(g).numel;
        cast(bed.ctx, group.grads.slice(begin, end), group.weights.slice(begin, end));
      }
      sync.gather_weights(bed.ctx);
      mine.weights = weights_of(bed.store);
      if (world.rank() == 0) buckets = bed.store.groups().size();
    });
    return results;
  };
  const std::vector<RankResult> want = run(kOneBucket, false);
  CHECK(buckets <= 5);
  INFO(point.to_string() << ", " << name_of(dtype));
  CHECK((run(kSmallBucket, true) == want));
  CHECK(buckets >= 8);
}

// Before gradients are summed over ranks, everything but the experts' gradients is a function of this rank's
// rows: the loss from the forward pass, the others from the input gradients. Experts elsewhere must not
// change one bit of it.
TEST_CASE("layout grid: forward and input gradients are bit-equal for every ep", "[model][layout]") {
  const ModelConfig config = tiny_moe();
  const Layout base = GENERATE(Layout{.dp = 4}, Layout{.dp = 2, .tp = 2}, Layout{.dp = 8});
  const DType dtype = GENERATE(DType::kF32, DType::kBF16);
  if (!row_invariant_gemm(dtype)) return;
  struct RankResult {
    double loss = 0;
    NamedValues gradients;
    bool operator==(const RankResult&) const = default;
  };
  std::vector<RankResult> want;
  for (int ep = 1; ep <= base.world(); ep *= 2) {
    Layout layout = base;
    layout.ep = ep;
    std::vector<RankResult> got(static_cast<std::size_t>(layout.world()));
    run_ranks(layout.world(), [&](Communicator& world) {
      TestBed bed(world, dtype, layout);
      Model model(bed.store, config);
      bed.place_weights();
      RankResult& mine = got[static_cast<std::size_t>(world.rank())];
      mine.loss = forward_backward(bed, model, {.layout = layout, .micro_batch = 1});
      mine.gradients = gradients_of(bed.store);
      for (const Param& param : bed.store.params()) {
        if (param.spec.expert) mine.gradients.erase(param.spec.name);
      }
    });
    if (ep == 1) want = got;
    INFO(layout.to_string() << ", " << name_of(dtype));
    CHECK((got == want));
  }
}

}  // namespace jevons::test
