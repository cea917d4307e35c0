// The layout grid (layout_grid.h) of the dense and the MoE model, and what does not change by a bit.
#include "tests/model/layout_grid.h"

#include "kernels/elementwise.h"
#include "kernels/gemm.h"
#include "tests/support/catch.h"
#include "tests/support/ranks.h"

namespace jevons::test {
namespace {

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

}  // namespace

TEST_CASE("layout grid: dense model", "[model][layout][ranks]") {
  const DType dtype = GENERATE(DType::kF64, DType::kF32);
  const GridModel model{tiny_dense(), dtype};
  check_points(model, grid(), one_worker(model, 1));
}

TEST_CASE("layout grid: MoE model with the losses per sequence and per row", "[model][layout][ranks]") {
  const DType dtype = GENERATE(DType::kF64, DType::kF32);
  const GridModel model{tiny_moe(), dtype};
  check_points(model, moe_grid(), one_worker(model, 1));
}

TEST_CASE("layout grid: MoE model whose tokens travel in chunks", "[model][layout][ranks]") {
  const StepResult want = one_worker({tiny_moe()}, 1);
  ModelConfig config = tiny_moe();
  config.moe.dispatch_chunks = 3;  // of 2 to 64 tokens
  config.recompute = GENERATE(Recompute::kNone, Recompute::kFull);
  check_points({config}, moe_grid(), want);
}

TEST_CASE("layout grid: multi-token prediction", "[model][layout][ranks]") {
  ModelConfig dense = tiny_dense(), moe = tiny_moe();
  dense.mtp.depth = 2;
  dense.tie_embeddings = true;
  moe.mtp.depth = 1;
  const DType dtype = GENERATE(DType::kF64, DType::kF32);
  check_points({dense, dtype}, grid(), one_worker({dense, dtype}, 1));
  check_points({moe, dtype}, moe_grid(), one_worker({moe, dtype}, 1));
}

// These losses depend on how the global batch is cut, by definition: the same cut is compared.
TEST_CASE("layout grid: MoE model with the balance loss over a micro-batch", "[model][layout][ranks]") {
  ModelConfig config = tiny_moe();
  config.moe.balance_loss = 0.3;
  for (std::int64_t micro_batch : {1, 2, 4, 8}) {
    std::vector<GridPoint> points = moe_grid();
    std::erase_if(points, [&](const GridPoint& point) { return point.micro_batch != micro_batch; });
    check_points({config}, points, one_worker({config}, micro_batch));
  }
}

TEST_CASE("layout grid: MoE model with the balance loss over the global batch", "[model][layout][ranks]") {
  ModelConfig config = tiny_moe();
  config.moe.global_balance_loss = 0.3;
  std::vector<GridPoint> points = moe_grid();
  std::erase_if(points,
                [](const GridPoint& point) { return point.micro_batch * point.layout.dp != kSequences; });
  CHECK(points.size() >= 5);
  check_points({config}, points, one_worker({config}, kSequences));
}

TEST_CASE("layout grid: recompute modes change no layout's result", "[model][layout][ranks]") {
  ModelConfig config = tiny_moe();
  config.mtp.depth = GENERATE(0, 2);
  const StepResult want = one_worker({config}, 1);
  config.recompute = GENERATE(Recompute::kSelective, Recompute::kFull);
  const std::vector<GridPoint> points = {
      {.layout = {.dp = 2, .ep = 2}, .zero_stage = 1, .micro_batch = 2},
      {.layout = {.dp = 2, .tp = 2, .ep = 4}, .zero_stage = 1, .micro_batch = 2}};
  check_points({config}, points, want);
}

TEST_CASE("layout grid: latent attention, with and without a latent of the queries",
          "[model][layout][ranks]") {
  const std::int64_t q_lora_rank = GENERATE(0, 5);
  GridModel model{with_latent(tiny_moe(), q_lora_rank)};
  const StepResult want = one_worker(model, 1);
  check_points(model, moe_grid(), want);
  model.config.recompute = Recompute::kSelective;
  check_points(model, {{.layout = {.dp = 2, .tp = 2, .ep = 2}, .zero_stage = 1, .micro_batch = 2}}, want);
}

TEST_CASE("layout grid: latent attention in f32", "[model][layout][ranks]") {
  const GridModel model{with_latent(tiny_moe(), 5), DType::kF32};
  check_points(model, moe_grid(), one_worker(model, 1));
}

// Every gradient is the same sum of the same terms, however it is cut into buckets and whenever that sum
// starts.
TEST_CASE("layout grid: buckets summed under the backward pass change no bit", "[model][layout][ranks]") {
  const ModelConfig config = tiny_moe();
  const int zero_stage = GENERATE(0, 1);
  const DType dtype = GENERATE(DType::kF32, DType::kBF16);
  const Layout layout = GENERATE(Layout{.dp = 4, .ep = 2}, Layout{.dp = 2, .tp = 2, .ep = 4});
  const GridPoint point{.layout = layout, .zero_stage = zero_stage, .micro_batch = 2};
  struct RankResult {
    NamedValues gradients, weights;
    std::size_t buckets = 0;
    bool operator==(const RankResult& other) const {
      return gradients == other.gradients && weights == other.weights;
    }
    auto fields() { return std::tie(gradients, weights, buckets); }
  };
  const auto run = [&](std::int64_t bucket_bytes, bool early) {
    return run_ranks(layout.world(), [&](Communicator& world) {
      TestBed bed(world, dtype, layout, Device::kCpu, bucket_bytes);
      Model model(bed.store, config);
      bed.place_weights();
      BucketReducer reducer(bed.store, zero_stage);
      forward_backward(bed, model, point, early ? &reducer : nullptr);
      reducer.finish(bed.ctx);
      RankResult mine;
      mine.buckets = bed.store.groups().size();
      if (zero_stage == 0) mine.gradients = gradients_of(bed.store);
      for (std::size_t g = 0; g < bed.store.groups().size(); ++g) {  // weights := gradients
        const ParamGroup& group = bed.store.groups()[g];
        if (group.tie == Tie::kCopy) continue;
        const std::int64_t begin = reducer.update_range(g).begin, end = begin + reducer.update_range(g).numel;
        cast(bed.ctx, group.grads.slice(begin, end), group.weights.slice(begin, end));
      }
      reducer.gather_weights(bed.ctx);
      mine.weights = weights_of(bed.store);
      return mine;
    });
  };
  const std::vector<RankResult> want = run(kOneBucket, false), got = run(kSmallBucket, true);
  INFO(point.to_string() << ", " << name_of(dtype));
  CHECK(want[0].buckets <= 5);
  CHECK(got[0].buckets >= 8);
  CHECK((got == want));
}

// Before gradients are summed over ranks, everything but the experts' gradients is a function of this rank's
// rows: the loss from the forward pass, the others from the input gradients. Experts elsewhere must not
// change one bit of it.
TEST_CASE("layout grid: forward and input gradients are bit-equal for every ep", "[model][layout][ranks]") {
  const ModelConfig config = tiny_moe();
  const Layout base = GENERATE(Layout{.dp = 4}, Layout{.dp = 2, .tp = 2}, Layout{.dp = 8});
  const DType dtype = GENERATE(DType::kF32, DType::kBF16);
  if (!gemm_backend(dtype).row_invariant) return;
  struct RankResult {
    double loss = 0;
    NamedValues gradients;
    bool operator==(const RankResult&) const = default;
    auto fields() { return std::tie(loss, gradients); }
  };
  std::vector<RankResult> want;
  for (int ep = 1; ep <= base.world(); ep *= 2) {
    Layout layout = base;
    layout.ep = ep;
    const std::vector<RankResult> got = run_ranks(layout.world(), [&](Communicator& world) {
      TestBed bed(world, dtype, layout);
      Model model(bed.store, config);
      bed.place_weights();
      RankResult mine;
      mine.loss = forward_backward(bed, model, {.layout = layout, .micro_batch = 1}).loss;
      mine.gradients = gradients_of(bed.store);
      for (const Param& param : bed.store.params()) {
        if (param.spec.expert) mine.gradients.erase(param.spec.name);
      }
      return mine;
    });
    if (ep == 1) want = got;
    INFO(layout.to_string() << ", " << name_of(dtype));
    CHECK((got == want));
  }
}

}  // namespace jevons::test
