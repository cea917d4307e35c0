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
  const RopeTable rope(Device::kCpu, DType::kF64, config);
  const Block block(bed.store, config, 0, rope);
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
        block.backward(ctx, dy, saved);
        CHECK(ctx.work->used_bytes() == 0);
        return dy;
      },
      {.probes = 16});
}

TEST_CASE("dense block: recomputing gives the same bits and keeps less", "[model]") {
  std::vector<std::vector<double>> outputs;
  std::vector<std::size_t> kept;
  for (Recompute recompute : {Recompute::kNone, Recompute::kSelective, Recompute::kFull}) {
    const ModelConfig config = config_with(recompute);
    MetaCommunicator world(0, 1);
    TestBed bed(world, DType::kF32);
    const RopeTable rope(Device::kCpu, DType::kF32, config);
    const Block block(bed.store, config, 0, rope);
    bed.place_weights();
    const Tensor dy = bed.random({16, config.hidden_size}, "dy");
    Block::Saved saved;
    const Tensor y =
        block.forward(bed.ctx, bed.random(dy.shape, "x"), sequences_of(bed, 2, config.seq_len), saved);
    kept.push_back(bed.stash.used_bytes());
    std::vector<double> all = to_vector(y);
    block.backward(bed.ctx, dy, saved);
    for (double value : to_vector(dy)) all.push_back(value);
    for (const auto& [name, values] : gradients_of(bed.store))
      all.insert(all.end(), values.begin(), values.end());
    outputs.push_back(all);
  }
  CHECK(outputs[1] == outputs[0]);
  CHECK(outputs[2] == outputs[0]);
  // The table of docs/model.md for T = S = 16, with QK-norm, plus the statistics of a row: two rstd, lse, and
  // rstd of q and k.
  const std::size_t d = 16, heads = 2 * (8 + 4) * 4, qk = (8 + 4) * 4, f = 24, row = 16 * sizeof(float);
  CHECK(kept[0] == row * (4 * d + heads + qk + 3 * f + 2 + 8 + 8 + 4));
  CHECK(kept[1] == row * (2 * d + heads + 2 * f + 2 + 8));
  CHECK(kept[2] == row * d);
}

TEST_CASE("dense block: infer() gives forward's bits and keeps nothing", "[model]") {
  const ModelConfig config = config_with(Recompute::kNone);
  MetaCommunicator world(0, 1);
  TestBed bed(world, DType::kF32);
  const RopeTable rope(Device::kCpu, DType::kF32, config);
  const Block block(bed.store, config, 0, rope);
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

TEST_CASE("dense block: tensor parallel equals one worker", "[model]") {
  const ModelConfig config = config_with(GENERATE(Recompute::kNone, Recompute::kSelective, Recompute::kFull));
  check_tensor_parallel(16, config.hidden_size, {2, 4}, [&](TestBed& bed, Tensor x, Tensor dy) {
    const RopeTable rope(Device::kCpu, DType::kF64, config);
    const Block block(bed.store, config, 0, rope);
    bed.place_weights();
    Block::Saved saved;
    const std::vector<double> y =
        to_vector(block.forward(bed.ctx, x, sequences_of(bed, 2, config.seq_len), saved));
    block.backward(bed.ctx, dy, saved);
    return ForwardBackward{y, to_vector(dy)};
  });
}

}  // namespace jevons::test
