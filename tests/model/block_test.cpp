#include "trainer/model/block.h"

#include "tests/model/grad_check.h"
#include "tests/support/tensor_parallel.h"
#include "tests/support/tiny_model.h"

namespace jevons::test {
namespace {

ModelConfig config_with(Recompute recompute) {
  ModelConfig config = tiny_dense();
  config.qk_norm = QkNorm::kHead;
  config.recompute = recompute;
  return config;
}

}  // namespace

TEST_CASE("dense block: gradients in every recompute mode", "[model]") {
  const ModelConfig config = config_with(GENERATE(Recompute::kNone, Recompute::kSelective, Recompute::kFull));
  MetaCommunicator world(0, 1);
  TestBed bed(world);
  const RopeTable rope = rope_of(Device::kCpu, DType::kF64, config);
  Block block(bed.store, config, 0, rope);
  bed.place_weights();
  const Sequences sequences = sequences_of(bed, 2, config.seq_len, 3);
  const Tensor x = bed.random({16, config.hidden_size}, "x");
  Block::Saved saved;
  check_layer(
      bed, x, x.shape,
      [&](const Context& ctx, Tensor in) {
        const Tensor y = block.forward(ctx, in, sequences, saved);
        CHECK(ctx.work->used_bytes() == 0);
        return y;
      },
      [&](const Context& ctx, Tensor dy) {
        reset_and_poison(*ctx.work);  // nothing that backward needs may lie there
        block.backward(ctx, dy, saved, {});
        CHECK(ctx.work->used_bytes() == 0);
        return dy;
      },
      {.probes = 16});
}

// Layer 1 of the tiny MoE model; its losses off, since the scalar under test is a projection of y.
TEST_CASE("MoE block: gradients in every recompute mode", "[model]") {
  ModelConfig config = tiny_moe();
  config.moe.sequence_balance_loss = config.moe.z_loss = 0;
  config.recompute = GENERATE(Recompute::kNone, Recompute::kSelective, Recompute::kFull);
  MetaCommunicator world(0, 1);
  TestBed bed(world);
  const RopeTable rope = rope_of(Device::kCpu, DType::kF64, config);
  Block block(bed.store, config, 1, rope);
  bed.place_weights();
  const Sequences sequences = sequences_of(bed, 2, config.seq_len, 3);
  const Tensor x = bed.random({16, config.hidden_size}, "x");
  Block::Saved saved;
  check_layer(
      bed, x, x.shape,
      [&](const Context& ctx, Tensor in) { return block.forward(ctx, in, sequences, saved); },
      [&](const Context& ctx, Tensor dy) {
        reset_and_poison(*ctx.work);
        block.backward(ctx, dy, saved, {});
        return dy;
      },
      {.probes = 10});
}

namespace {

// Output, gradients and kept bytes of layer `layer` of a model in f32.
struct BlockRun {
  std::vector<double> numbers;
  std::size_t kept = 0;
};

BlockRun run_block(const ModelConfig& config, std::int64_t layer) {
  MetaCommunicator world(0, 1);
  TestBed bed(world, DType::kF32);
  const RopeTable rope = rope_of(Device::kCpu, DType::kF32, config);
  Block block(bed.store, config, layer, rope);
  bed.place_weights();
  const Tensor dy = bed.random({16, config.hidden_size}, "dy");
  Block::Saved saved;
  const Tensor y =
      block.forward(bed.ctx, bed.random(dy.shape, "x"), sequences_of(bed, 2, config.seq_len), saved);
  BlockRun run{.numbers = to_vector(y), .kept = bed.stash.used_bytes()};
  reset_and_poison(bed.work);
  block.backward(bed.ctx, dy, saved, {});
  const std::vector<double> dx = to_vector(dy);
  run.numbers.insert(run.numbers.end(), dx.begin(), dx.end());
  for (const auto& [name, values] : gradients_of(bed.store)) {
    run.numbers.insert(run.numbers.end(), values.begin(), values.end());
  }
  return run;
}

std::vector<BlockRun> run_in_every_mode(ModelConfig config, std::int64_t layer) {
  std::vector<BlockRun> runs;
  for (Recompute recompute : {Recompute::kNone, Recompute::kSelective, Recompute::kFull}) {
    config.recompute = recompute;
    runs.push_back(run_block(config, layer));
  }
  return runs;
}

}  // namespace

TEST_CASE("block: recomputing gives the same bits and keeps less", "[model]") {
  const std::int64_t layer = GENERATE(0, 1);  // dense, MoE
  const std::vector<BlockRun> runs = run_in_every_mode(tiny_moe(), layer);
  CHECK(runs[1].numbers == runs[0].numbers);
  CHECK(runs[2].numbers == runs[0].numbers);
  CHECK(runs[2].kept < runs[1].kept);
  CHECK(runs[1].kept < runs[0].kept);
}

TEST_CASE("dense block: what is kept is what docs/model.md says", "[model]") {
  const std::vector<BlockRun> runs = run_in_every_mode(config_with(Recompute::kNone), 0);
  // T = S = 16, with QK-norm, plus the statistics of a row: two rstd, lse, and rstd of q and k.
  const std::size_t d = 16, heads = 2 * (8 + 4) * 4, qk = (8 + 4) * 4, f = 24, row = 16 * sizeof(float);
  const std::size_t rstd = kArenaAlignment / row;  // one number a row is less than a tensor takes
  CHECK(runs[0].kept == row * (4 * d + heads + qk + 3 * f + 2 * rstd + 8 + 8 + 4));
  CHECK(runs[1].kept == row * (2 * d + heads + 2 * f + 2 * rstd + 8));
  CHECK(runs[2].kept == row * d);
}

TEST_CASE("block: infer() gives forward's bits and keeps nothing", "[model]") {
  const ModelConfig config = tiny_moe();
  const std::int64_t layer = GENERATE(0, 1);
  MetaCommunicator world(0, 1);
  TestBed bed(world, DType::kF32);
  const RopeTable rope = rope_of(Device::kCpu, DType::kF32, config);
  Block block(bed.store, config, layer, rope);
  bed.place_weights();
  const Tensor x = bed.random({16, config.hidden_size}, "x");
  const Sequences sequences = sequences_of(bed, 2, config.seq_len);
  Block::Saved saved;
  const std::vector<double> y = to_vector(block.forward(bed.ctx, x, sequences, saved));
  const std::size_t stash_before = bed.stash.used_bytes();
  block.infer(bed.ctx, x, sequences);
  CHECK(to_vector(x) == y);
  CHECK(bed.stash.used_bytes() == stash_before);
}

TEST_CASE("block: tensor parallel equals one worker", "[model][ranks]") {
  ModelConfig config = tiny_moe();
  const std::int64_t layer = GENERATE(0, 1);
  config.recompute = GENERATE(Recompute::kNone, Recompute::kSelective, Recompute::kFull);
  check_tensor_parallel(16, config.hidden_size, {2, 4}, [&](TestBed& bed, Tensor x, Tensor dy) {
    const RopeTable rope = rope_of(Device::kCpu, DType::kF64, config);
    Block block(bed.store, config, layer, rope);
    bed.place_weights();
    Block::Saved saved;
    const std::vector<double> y =
        to_vector(block.forward(bed.ctx, x, sequences_of(bed, 2, config.seq_len), saved));
    block.backward(bed.ctx, dy, saved, {});
    return ForwardBackward{y, to_vector(dy)};
  });
}

}  // namespace jevons::test
