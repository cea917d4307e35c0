#include "trainer/model/attention.h"

#include "tests/model/branch_check.h"
#include "tests/support/tensor_parallel.h"
#include "tests/support/tiny_model.h"

namespace jevons::test {
namespace {

ModelConfig config_with(QkNorm norm) {
  ModelConfig config = tiny_dense();
  config.qk_norm = norm;
  return config;
}

}  // namespace

TEST_CASE("attention layer: tensor parallel equals one worker", "[model][ranks]") {
  const QkNorm norm = GENERATE(QkNorm::kNone, QkNorm::kHead);
  const Recompute recompute = GENERATE(Recompute::kNone, Recompute::kSelective, Recompute::kFull);
  const ModelConfig config = config_with(norm);
  check_tensor_parallel(16, config.hidden_size, {2, 4}, [&](TestBed& bed, Tensor x, Tensor dy) {
    const RopeTable rope = rope_of(Device::kCpu, DType::kF64, config);
    const Attention attention(bed.store, config, "attn", rope);
    bed.place_weights();
    Attention::Saved saved;
    const Sequences sequences = sequences_of(bed, 2, config.seq_len, 5);
    const Tensor y = run_forward(attention, bed.ctx, x, sequences, saved, recompute);
    const Tensor dx = run_backward(attention, bed.ctx, x, dy, saved, recompute);
    return ForwardBackward{to_vector(y), to_vector(dx)};
  });
}

TEST_CASE("attention layer: a norm over all heads refuses tensor parallelism", "[model]") {
  const ModelConfig config = config_with(QkNorm::kHidden);
  MetaCommunicator world(0, 2);
  TestBed bed(world, DType::kF32, {.tp = 2}, Device::kMeta);
  const RopeTable rope = rope_of(Device::kMeta, DType::kF32, config);
  CHECK_THROWS_AS(Attention(bed.store, config, "attn", rope), Error);
}

// A row must not see what comes after it, nor another document, nor another sequence.
TEST_CASE("attention layer: what a row depends on", "[model]") {
  const ModelConfig config = config_with(QkNorm::kHead);
  MetaCommunicator world(0, 1);
  TestBed bed(world);
  const RopeTable rope = rope_of(Device::kCpu, DType::kF64, config);
  const Attention attention(bed.store, config, "attn", rope);
  bed.place_weights();
  const Sequences sequences = sequences_of(bed, 2, config.seq_len, 5);
  const Tensor x = bed.random({2 * config.seq_len, config.hidden_size}, "x");
  const auto run = [&] {
    Attention::Saved saved;
    return to_vector(run_forward(attention, bed.ctx, x, sequences, saved));
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
