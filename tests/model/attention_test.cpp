#include "trainer/model/attention.h"

#include "tests/model/grad_check.h"
#include "tests/support/tensor_parallel.h"
#include "tests/support/tiny_model.h"

namespace jevons::test {
namespace {

ModelConfig config_with(QkNorm norm, Recompute recompute) {
  ModelConfig config = tiny_dense();
  config.qk_norm = norm;
  config.recompute = recompute;
  return config;
}

}  // namespace

TEST_CASE("attention layer: gradients", "[model]") {
  const QkNorm norm = GENERATE(QkNorm::kNone, QkNorm::kHead, QkNorm::kHidden);
  const Recompute recompute = GENERATE(Recompute::kNone, Recompute::kSelective);
  const std::int64_t second_document = GENERATE(0, 3);
  const ModelConfig config = config_with(norm, recompute);
  MetaCommunicator world(0, 1);
  TestBed bed(world);
  const RopeTable rope = rope_of(Device::kCpu, DType::kF64, config);
  const Attention attention(bed.store, config, "attn", rope);
  bed.place_weights();
  const Sequences sequences = sequences_of(bed, 2, config.seq_len, second_document);
  const Tensor x = bed.random({2 * config.seq_len, config.hidden_size}, "x");
  Attention::Saved saved;
  check_layer(
      bed, x, x.shape,
      [&](const Context& ctx, Tensor in) { return attention.forward(ctx, in, sequences, saved); },
      [&](const Context& ctx, Tensor dy) {
        if (recompute == Recompute::kSelective) attention.restore(ctx, x, saved);
        return attention.backward(ctx, dy, saved);
      },
      {.probes = 24});
}

TEST_CASE("attention layer: tensor parallel equals one worker", "[model][ranks]") {
  const QkNorm norm = GENERATE(QkNorm::kNone, QkNorm::kHead);
  const Recompute recompute = GENERATE(Recompute::kNone, Recompute::kSelective);
  const ModelConfig config = config_with(norm, recompute);
  check_tensor_parallel(16, config.hidden_size, {2, 4}, [&](TestBed& bed, Tensor x, Tensor dy) {
    const RopeTable rope = rope_of(Device::kCpu, DType::kF64, config);
    const Attention attention(bed.store, config, "attn", rope);
    bed.place_weights();
    Attention::Saved saved;
    const Tensor y = attention.forward(bed.ctx, x, sequences_of(bed, 2, config.seq_len, 5), saved);
    if (recompute == Recompute::kSelective) attention.restore(bed.ctx, x, saved);
    const Tensor dx = attention.backward(bed.ctx, dy, saved);
    return ForwardBackward{to_vector(y), to_vector(dx)};
  });
}

TEST_CASE("attention layer: a norm over all heads refuses tensor parallelism", "[model]") {
  const ModelConfig config = config_with(QkNorm::kHidden, Recompute::kNone);
  MetaCommunicator world(0, 2);
  TestBed bed(world, DType::kF32, {.tp = 2}, Device::kMeta);
  const RopeTable rope = rope_of(Device::kMeta, DType::kF32, config);
  CHECK_THROWS_AS(Attention(bed.store, config, "attn", rope), Error);
}

// A row must not see what comes after it, nor another document, nor another sequence.
TEST_CASE("attention layer: what a row depends on", "[model]") {
  const ModelConfig config = config_with(QkNorm::kHead, Recompute::kNone);
  MetaCommunicator world(0, 1);
  TestBed bed(world);
  const RopeTable rope = rope_of(Device::kCpu, DType::kF64, config);
  const Attention attention(bed.store, config, "attn", rope);
  bed.place_weights();
  const Sequences sequences = sequences_of(bed, 2, config.seq_len, 5);
  const Tensor x = bed.random({2 * config.seq_len, config.hidden_size}, "x");
  const auto run = [&] {
    Attention::Saved saved;
    return to_vector(attention.forward(bed.ctx, x, sequences, saved));
  };
  const std::vector<double> before = run();
  const std::int64_t changed = 3;  // first document of the first sequence
  x.ptr<double>()[changed * config.hidden_size] += 1;
  const std::vector<double> after = run();
  for (std::int64_t t = 0; t < 2 * config.seq_len; ++t) {
    const bool sees = t >= changed && t < 5;
    const auto at = static_cast<std::size_t>(t * config.hidden_size);
    INFO("row " << t);
    CHECK((after[at] != before[at]) == sees);
  }
}

}  // namespace jevons::test
