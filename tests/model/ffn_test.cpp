#include "trainer/model/ffn.h"

#include "tests/model/branch_check.h"
#include "tests/support/tensor_parallel.h"

namespace jevons::test {

TEST_CASE("ffn: tensor parallel equals one worker", "[model][ranks]") {
  const ModelConfig config = tiny_dense();
  const Recompute recompute = GENERATE(Recompute::kNone, Recompute::kSelective, Recompute::kFull);
  check_tensor_parallel(8, config.hidden_size, {2, 4}, [&](TestBed& bed, Tensor x, Tensor dy) {
    const DenseFfn ffn(bed.store, config, "ffn", config.ffn_hidden_size);
    bed.place_weights();
    DenseFfn::Saved saved;
    const Tensor y = run_forward(ffn, bed.ctx, x, {}, saved, recompute);
    const Tensor dx = run_backward(ffn, bed.ctx, x, dy, saved, recompute);
    return ForwardBackward{to_vector(y), to_vector(dx)};
  });
}

}  // namespace jevons::test
