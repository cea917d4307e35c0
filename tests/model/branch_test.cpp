// One contract, all branches and layers.
#include "tests/model/branch_check.h"

#include <deque>

#include "trainer/model/block.h"
#include "trainer/model/embedding.h"
#include "trainer/model/lm_head.h"

namespace jevons::test {

TEST_CASE("branch contract: attention", "[model][branch]") {
  ModelConfig config = tiny_dense();
  config.qk_norm = GENERATE(QkNorm::kNone, QkNorm::kHead, QkNorm::kHidden);
  const std::int64_t second_document = GENERATE(0, 3);
  std::deque<RopeTable> ropes;
  check_branch(
      [&](TestBed& bed) {
        return Attention(bed.store, config, "attn",
                         ropes.emplace_back(rope_of(Device::kCpu, bed.ctx.compute, config)));
      },
      second_document);
}

TEST_CASE("branch contract: latent attention", "[model][branch]") {
  const ModelConfig config = tiny_latent(GENERATE(0, 5));
  const std::int64_t second_document = GENERATE(0, 3);
  std::deque<RopeTable> ropes;
  check_branch(
      [&](TestBed& bed) {
        return LatentAttention(bed.store, config, "attn",
                               ropes.emplace_back(rope_of(Device::kCpu, bed.ctx.compute, config)));
      },
      second_document);
}

TEST_CASE("branch contract: dense FFN", "[model][branch]") {
  const ModelConfig config = tiny_dense();
  check_branch([&](TestBed& bed) { return DenseFfn(bed.store, config, "ffn", config.ffn_hidden_size); });
}

// Its losses off, since the scalar under test is a projection of y.
TEST_CASE("branch contract: MoE", "[model][branch]") {
  ModelConfig config = tiny_moe();
  config.moe.sequence_balance_loss = config.moe.z_loss = 0;
  config.moe.dispatch_chunks = GENERATE(1, 3);
  config.moe.capacity_factor = GENERATE(0.0, 0.8);
  check_branch([&](TestBed& bed) { return Moe(bed.store, config, 1); });
}

TEST_CASE("backward by halves: linear, norm and embedding", "[model][branch]") {
  check_layer_halves(
      [](TestBed& bed) {
        return Linear(bed.store, {{.name = "a", .shape = {3, 5}}, {.name = "b", .shape = {4, 5}}});
      },
      {6, 5}, {6, 7});
  check_layer_halves([](TestBed& bed) { return Norm(bed.store, "norm", 6, 1e-5); }, {5, 6}, {5, 6});
  const ModelConfig config = tiny_dense();
  check_halves([&](TestBed& bed, Halves halves) {
    const Embedding embedding(bed.store, config);
    bed.place_weights();
    Embedding::Saved saved;
    const Tensor tokens = random_batch(bed, config, 2, "tokens").tokens;
    const Tensor y = embedding.forward(bed.ctx, tokens, saved), dy = bed.random(y.shape, "dy");
    if (halves == Halves::kTogether) {
      backward(embedding, bed.ctx, dy, saved);
    } else {
      embedding.backward_input(bed.ctx, dy, saved);
      reset_and_poison(bed.work);
      embedding.backward_weight(bed.ctx, saved);
    }
    return to_vector(y);
  });
}

TEST_CASE("backward by halves: head, with logits kept or made again", "[model][branch]") {
  ModelConfig config = tiny_dense();
  config.max_logit_bytes = GENERATE(1 << 20, 5 * 20 * 4);
  check_halves([&](TestBed& bed, Halves halves) {
    const LmHead head(bed.store, config, std::nullopt);
    bed.place_weights();
    const MicroBatch batch = random_batch(bed, config, 2, "tokens", 3);
    LmHead::Saved saved;
    const Tensor x = bed.random({16, config.hidden_size}, "x"), sum = bed.tensor({1}, DType::kF64);
    head.forward(bed.ctx, x, batch.targets, sum, saved);
    reset_and_poison(bed.work);
    if (halves == Halves::kTogether) return to_vector(head.backward(bed.ctx, 0.3, saved));
    const Tensor dx = head.backward_input(bed.ctx, 0.3, saved);
    reset_and_poison(bed.work);
    head.backward_weight(bed.ctx, saved);
    return to_vector(dx);
  });
}

TEST_CASE("backward by halves: block in every recompute mode", "[model][branch]") {
  ModelConfig config = GENERATE(tiny_moe(), with_latent(tiny_moe(), 5));
  config.recompute = GENERATE(Recompute::kNone, Recompute::kSelective, Recompute::kFull);
  const std::int64_t layer = GENERATE(0, 1);  // dense, MoE
  check_halves([&](TestBed& bed, Halves halves) {
    const RopeTable rope = rope_of(Device::kCpu, DType::kF32, config);
    Block block(bed.store, config, layer, rope);
    bed.place_weights();
    const Tensor dy = bed.random({16, config.hidden_size}, "dy");
    Block::Saved saved;
    block.forward(bed.ctx, bed.random(dy.shape, "x"), sequences_of(bed, 2, config.seq_len, 3), saved);
    reset_and_poison(bed.work);
    if (halves == Halves::kTogether) {
      block.backward(bed.ctx, dy, saved, {});
      return to_vector(dy);
    }
    const Tensor dx = block.backward_input(bed.ctx, dy, saved, {});
    reset_and_poison(bed.work);
    block.backward_weight(bed.ctx, saved);
    return to_vector(dx);
  });
}

}  // namespace jevons::test
