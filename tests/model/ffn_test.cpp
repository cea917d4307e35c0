#include "trainer/model/ffn.h"

#include "tests/model/grad_check.h"
#include "tests/support/tensor_parallel.h"
#include "tests/support/tiny_model.h"

namespace jevons::test {
namespace {

static_assert(Layer<DenseFfn>);

ModelConfig config_with(Recompute recompute) {
  ModelConfig config = tiny_dense();
  config.recompute = recompute;
  return config;
}

}  // namespace

TEST_CASE("ffn: gradients", "[model]") {
  const ModelConfig config = config_with(GENERATE(Recompute::kNone, Recompute::kSelective));
  MetaCommunicator world(0, 1);
  TestBed bed(world);
  const DenseFfn ffn(bed.store, config, "ffn", config.ffn_hidden_size);
  bed.place_weights();
  const Tensor x = bed.random({6, config.hidden_size}, "x");
  DenseFfn::Saved saved;
  check_layer(
      bed, x, x.shape, [&](const Context& ctx, Tensor in) { return ffn.forward(ctx, in, saved); },
      [&](const Context& ctx, Tensor dy) {
        if (config.recompute == Recompute::kSelective) ffn.restore(ctx, x, saved);
        return ffn.backward(ctx, dy, saved);
      });
}

TEST_CASE("ffn: restore() from nothing serves backward", "[model]") {
  const ModelConfig config = config_with(Recompute::kFull);
  MetaCommunicator world(0, 1);
  TestBed bed(world);
  const DenseFfn ffn(bed.store, config, "ffn", config.ffn_hidden_size);
  bed.place_weights();
  const Tensor x = bed.random({6, config.hidden_size}, "x"), dy = bed.random(x.shape, "dy");
  DenseFfn::Saved kept, made_again;
  ffn.forward(bed.ctx, x, kept);
  const std::vector<double> want = to_vector(ffn.backward(bed.ctx, dy, kept));
  const std::size_t stash_before = bed.stash.used_bytes();
  ffn.restore(bed.ctx, x, made_again);
  CHECK(to_vector(ffn.backward(bed.ctx, dy, made_again)) == want);
  CHECK(bed.stash.used_bytes() == stash_before);
}

TEST_CASE("ffn: tensor parallel equals one worker", "[model][ranks]") {
  const ModelConfig config = config_with(GENERATE(Recompute::kNone, Recompute::kSelective));
  check_tensor_parallel(8, config.hidden_size, {2, 4}, [&](TestBed& bed, Tensor x, Tensor dy) {
    const DenseFfn ffn(bed.store, config, "ffn", config.ffn_hidden_size);
    bed.place_weights();
    DenseFfn::Saved saved;
    const Tensor y = ffn.forward(bed.ctx, x, saved);
    if (config.recompute == Recompute::kSelective) ffn.restore(bed.ctx, x, saved);
    const Tensor dx = ffn.backward(bed.ctx, dy, saved);
    return ForwardBackward{to_vector(y), to_vector(dx)};
  });
}

}  // namespace jevons::test
