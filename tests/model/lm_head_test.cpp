#include "trainer/model/lm_head.h"

#include "tests/model/grad_check.h"
#include "tests/support/tensor_parallel.h"
#include "tests/support/tiny_model.h"
#include "trainer/model/embedding.h"

namespace jevons::test {
namespace {

constexpr double kScale = 0.3;

}  // namespace

TEST_CASE("lm head: gradients, logits kept or made again by chunk", "[model]") {
  ModelConfig config = tiny_dense();
  // 5 rows of 20 f64 logits: chunks of 5, 5, 5 and 1.
  config.max_logit_bytes = GENERATE(as<std::int64_t>{}, 1 << 20, 5 * 20 * 8, 1);
  MetaCommunicator world(0, 1);
  TestBed bed(world);
  const LmHead head(bed.store, config, std::nullopt);
  bed.place_weights();
  const Tensor x = bed.random({16, config.hidden_size}, "x");
  const MicroBatch batch = random_batch(bed, config, 2, "tokens", 3);
  LmHead::Saved saved;
  GradProblem problem;
  problem.inputs = {x};
  problem.loss = [&](const Context& ctx) {
    return kScale * loss_of(ctx, [&](Tensor sum) { head.forward(ctx, x, batch.targets, sum, saved); });
  };
  problem.backward = [&](const Context& ctx) {
    return std::vector<Tensor>{head.backward(ctx, kScale, saved)};
  };
  check_gradients(bed, problem);
  CHECK(saved.vocab.logits.defined() == (config.max_logit_bytes == 1 << 20));
}

TEST_CASE("lm head: loss is ln V for equal logits, and masked rows do not count", "[model]") {
  const ModelConfig config = tiny_dense();
  MetaCommunicator world(0, 1);
  TestBed bed(world, DType::kF32);
  const LmHead head(bed.store, config, std::nullopt);
  bed.store.allocate();  // all weights zero
  const MicroBatch batch = random_batch(bed, config, 2, "tokens", 4);
  LmHead::Saved saved;
  const Tensor x = bed.random({16, config.hidden_size}, "x");
  REQUIRE(count_targets(batch) == 12);
  const double loss =
      loss_of(bed.ctx, [&](Tensor sum) { head.forward(bed.ctx, x, batch.targets, sum, saved); });
  CHECK(loss == Approx(12 * std::log(20.0)).epsilon(1e-6));
}

// As multi-token prediction uses them: a second pass through both begins before the first one went back.
TEST_CASE("lm head and embedding: two uses in a pass do not disturb each other", "[model]") {
  ModelConfig config = tiny_dense();
  config.tie_embeddings = GENERATE(false, true);
  config.max_logit_bytes = GENERATE(as<std::int64_t>{}, 1 << 20, 5 * 20 * 8);
  const int first_back = GENERATE(0, 1);
  struct Use {
    MicroBatch batch;
    Embedding::Saved embedding;
    LmHead::Saved head;
  };
  const auto numbers = [&](bool overlapping) {
    MetaCommunicator world(0, 1);
    TestBed bed(world);
    const Embedding embedding(bed.store, config);
    const LmHead head(bed.store, config,
                      config.tie_embeddings ? std::optional(embedding.weight()) : std::nullopt);
    bed.place_weights();
    std::vector<Use> uses(2);
    for (std::size_t i = 0; i < 2; ++i) {
      uses[i].batch = random_batch(bed, config, 2, "batch " + std::to_string(i), 3 + static_cast<int>(i));
    }
    const Tensor sum = bed.tensor({1}, DType::kF64);
    const auto forward = [&](Use& use) {
      const Tensor x = embedding.forward(bed.ctx, use.batch.tokens, use.embedding);
      head.forward(bed.ctx, x, use.batch.targets, sum, use.head);
    };
    const auto back = [&](Use& use) {
      backward(embedding, bed.ctx, head.backward(bed.ctx, kScale, use.head), use.embedding);
      reset_and_poison(bed.work);
    };
    Use& early = uses[static_cast<std::size_t>(first_back)];
    Use& late = uses[static_cast<std::size_t>(1 - first_back)];
    if (overlapping) {
      forward(uses[0]), forward(uses[1]);
      back(early), back(late);
    } else {
      forward(early), back(early);
      forward(late), back(late);
    }
    std::vector<double> all = to_vector(sum);
    for (const auto& [name, values] : gradients_of(bed.store)) {
      all.insert(all.end(), values.begin(), values.end());
    }
    return all;
  };
  CHECK(numbers(true) == numbers(false));
}

TEST_CASE("lm head: tensor parallel equals one worker", "[model][ranks]") {
  ModelConfig config = tiny_dense();
  config.max_logit_bytes = GENERATE(as<std::int64_t>{}, 1 << 20, 5 * 5 * 8);
  check_tensor_parallel(16, config.hidden_size, {2, 4}, [&](TestBed& bed, Tensor x, Tensor) {
    const LmHead head(bed.store, config, std::nullopt);
    bed.place_weights();
    LmHead::Saved saved;
    const MicroBatch batch = random_batch(bed, config, 2, "tokens", 3);
    const Tensor sum = bed.tensor({1}, DType::kF64);
    head.forward(bed.ctx, x, batch.targets, sum, saved);
    bed.mesh.stage().all_reduce(sum).wait();
    const Tensor dx = head.backward(bed.ctx, kScale, saved);
    // The loss takes y's place: the same number in every row.
    return ForwardBackward{std::vector<double>(static_cast<std::size_t>(x.rows()), sum.ptr<double>()[0]),
                           to_vector(dx)};
  });
}

}  // namespace jevons::test
