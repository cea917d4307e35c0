#include "trainer/model/embedding.h"

#include "tests/model/grad_check.h"
#include "tests/support/tensor_parallel.h"
#include "tests/support/tiny_model.h"

namespace jevons::test {

TEST_CASE("embedding: gradients, with tokens that repeat", "[model]") {
  const ModelConfig config = tiny_dense();
  MetaCommunicator world(0, 1);
  TestBed bed(world);
  const Embedding embedding(bed.store, config);
  bed.place_weights();
  const MicroBatch batch = random_batch(bed, config, 4, "tokens");
  const Tensor dy = bed.random({32, config.hidden_size}, "dy");
  Embedding::Saved saved;
  GradProblem problem;
  problem.loss = [&](const Context& ctx) { return dot(embedding.forward(ctx, batch.tokens, saved), dy); };
  problem.backward = [&](const Context& ctx) {
    backward(embedding, ctx, dy, saved);
    return std::vector<Tensor>{};
  };
  check_gradients(bed, problem, {.probes = 400});
}

TEST_CASE("embedding: tensor parallel equals one worker", "[model][ranks]") {
  const ModelConfig config = tiny_dense();
  check_tensor_parallel(16, config.hidden_size, {2, 4}, [&](TestBed& bed, Tensor, Tensor dy) {
    const Embedding embedding(bed.store, config);
    bed.place_weights();
    Embedding::Saved saved;
    const Tensor y = embedding.forward(bed.ctx, random_batch(bed, config, 2, "tokens").tokens, saved);
    backward(embedding, bed.ctx, dy, saved);
    return ForwardBackward{to_vector(y), to_vector(dy)};
  });
}

}  // namespace jevons::test
