// Generation behind a cache against passes over whole sequences.
#include "parallel/meta/meta_communicator.h"
#include "tests/support/catch.h"
#include "tests/support/compare.h"
#include "tests/support/tiny_model.h"

namespace jevons::test {
namespace {

struct DecodingModel {
  explicit DecodingModel(const ModelConfig& config, DType compute = DType::kF64)
      : world(0, 1), bed(world, compute), model(bed.store, config) {
    bed.place_weights();
  }
  Tensor ints(const std::vector<std::int32_t>& values) {
    const Tensor t = bed.tensor({std::ssize(values)}, DType::kI32);
    std::ranges::copy(values, t.ptr<std::int32_t>());
    return t;
  }
  // Logits (seq_len, V) of a pass over the whole sequence and what fills it up, which it does not see.
  std::vector<double> whole(std::vector<std::int32_t> sequence) {
    reset();
    sequence.resize(static_cast<std::size_t>(model.config().seq_len));
    return to_vector(model.logits(bed.ctx, ints(sequence)));
  }
  void reset() { reset_and_poison(bed.stash), reset_and_poison(bed.work); }

  MetaCommunicator world;
  TestBed bed;
  Model model;
};

ModelConfig with_norm(QkNorm norm) {
  ModelConfig config = tiny_dense();
  config.qk_norm = norm;
  return config;
}

std::vector<double> row_of(const std::vector<double>& logits, std::int64_t row, std::int64_t vocab) {
  return {logits.begin() + row * vocab, logits.begin() + (row + 1) * vocab};
}

}  // namespace

TEST_CASE("decoding gives the logits of a pass over the whole sequence", "[model][decode]") {
  const ModelConfig config =
      GENERATE(tiny_dense(), tiny_moe(), with_norm(QkNorm::kHead), with_norm(QkNorm::kHidden), tiny_latent(0),
               tiny_latent(12), with_latent(tiny_moe(), 12));
  DecodingModel decoding(config);
  const std::int64_t vocab = config.vocab_size;
  // Two sequences, in slots 2 and 0, at different positions all the time.
  const std::vector<std::int32_t> a = {3, 1, 4, 1, 5, 9, 2, 6}, b = {2, 7, 1, 8, 2, 8};
  const std::vector<double> all_a = decoding.whole(a), all_b = decoding.whole(b);
  KvCache cache = decoding.model.make_cache({.sequences = 3, .positions = config.seq_len});
  const auto prefill = [&](const std::vector<std::int32_t>& tokens, std::int64_t slot) {
    decoding.reset();
    return to_vector(decoding.model.prefill(decoding.bed.ctx, decoding.ints(tokens), slot, cache));
  };
  expect_close("first of a", prefill({a.begin(), a.begin() + 3}, 2), row_of(all_a, 2, vocab), 1e-12);
  expect_close("first of b", prefill({b.begin(), b.begin() + 1}, 0), row_of(all_b, 0, vocab), 1e-12);
  for (std::int32_t i = 0; i < 5; ++i) {
    decoding.reset();
    const CachePlaces places{.slots = decoding.ints({2, 0}),
                             .positions = decoding.ints({3 + i, 1 + i}),
                             .capacity = config.seq_len};
    const Tensor tokens =
        decoding.ints({a[static_cast<std::size_t>(3 + i)], b[static_cast<std::size_t>(1 + i)]});
    const std::vector<double> logits =
        to_vector(decoding.model.decode(decoding.bed.ctx, tokens, places, cache));
    expect_close("a", row_of(logits, 0, vocab), row_of(all_a, 3 + i, vocab), 1e-12);
    expect_close("b", row_of(logits, 1, vocab), row_of(all_b, 1 + i, vocab), 1e-12);
  }
  // A slot is taken by another text, shorter than what was there.
  expect_close("again", prefill({b.begin(), b.begin() + 2}, 2), row_of(all_b, 1, vocab), 1e-12);
  decoding.reset();
  const CachePlaces next{
      .slots = decoding.ints({2}), .positions = decoding.ints({2}), .capacity = config.seq_len};
  const Tensor last = decoding.model.decode(decoding.bed.ctx, decoding.ints({b[2]}), next, cache);
  expect_close("behind", to_vector(last), row_of(all_b, 2, vocab), 1e-12);
}

TEST_CASE("a cache holds no more positions than the model knows", "[model][decode]") {
  DecodingModel decoding(tiny_dense());
  CHECK_THROWS_AS(decoding.model.make_cache({.sequences = 1, .positions = 9}), Error);
  KvCache cache = decoding.model.make_cache({.sequences = 1, .positions = 4});
  CHECK(cache.bytes() == 2 * 4 * 2 * 4 * 4 * sizeof(double));  // layers, positions, k and v, heads, d
  const ModelConfig latent = tiny_latent(0);
  DecodingModel narrow(latent);
  CHECK(narrow.model.cache_columns() ==
        latent.num_layers * (latent.mla.kv_lora_rank + latent.mla.qk_rope_head_dim));
  const Tensor five = decoding.ints({1, 2, 3, 4, 5});
  CHECK_THROWS_AS(decoding.model.prefill(decoding.bed.ctx, five, 0, cache), Error);
}

}  // namespace jevons::test
