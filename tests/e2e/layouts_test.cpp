// A few layouts under mpirun against one worker: losses, gradient norms and the weights after plain gradient
// descent at rate 1.
#include "tests/data/temp_files.h"
#include "tests/e2e/program.h"
#include "tests/e2e/run_result.h"
#include "tests/trainer/training_run.h"

namespace jevons {

using test::largest, test::largest_difference, test::Result, test::result_of;

TEST_CASE("layouts under mpirun agree with one worker", "[e2e]") {
  const TempDir dir;
  test::write_corpus(dir / "corpus");
  const auto train = [&](int workers, const std::string& name, const std::string& layout) {
    write_bytes(dir / (name + ".yaml"), test::tiny_yaml(dir / "corpus", dir / name));
    // The bias is left out: one of its steps flips when a load crosses the mean by a single token.
    const test::Ran ran =
        test::mpirun(workers, "train " + (dir / (name + ".yaml")) +
                                  " train.steps=3 optimizer.kind=sgd optimizer.lr=1 "
                                  "optimizer.clip_norm=0 schedule.kind=constant schedule.warmup_steps=0 "
                                  "model.moe.router.selection_bias=false " +
                                  layout);
    INFO(ran.output);
    REQUIRE(ran.code == 0);
    return result_of(dir / name);
  };
  // fp32 sums in another order; relative to the largest element of each tensor.
  constexpr double kBound = 1e-4;
  const Result one = train(1, "one", "");
  REQUIRE(one.losses.size() == 3);
  const std::vector<std::pair<int, std::string>> layouts{{2, "parallel.ep=2"},
                                                         {2, "parallel.tp=2 parallel.zero_stage=0"},
                                                         {4, "parallel.tp=2 parallel.ep=4"},
                                                         {8, "parallel.ep=4"}};
  for (const auto& [workers, layout] : layouts) {
    INFO(workers << " workers, " << layout);
    const Result many = train(workers, fmt::format("run{}{}", workers, layout.size()), layout);
    for (std::size_t i = 0; i < 3; ++i) {
      CHECK(many.losses[i] == Approx(one.losses[i]).epsilon(kBound));
      CHECK(many.norms[i] == Approx(one.norms[i]).epsilon(kBound));
    }
    CHECK(many.weights.size() == one.weights.size());
    for (const auto& [name, values] : one.weights) {
      INFO(name);
      CHECK(largest_difference(many.weights.at(name), values) <= kBound * largest(values));
    }
  }
}

}  // namespace jevons
