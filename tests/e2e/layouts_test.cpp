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
                                                         {8, "parallel.ep=4"},
                                                         {8, "parallel.pp=2 parallel.tp=2 parallel.ep=4"},
                                                         {4, "parallel.cp=4 parallel.ep=2"},
                                                         {8, "parallel.pp=2 parallel.cp=2 parallel.tp=2"}};
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

// The router has sent all tokens to the experts of one worker when the third step begins.
TEST_CASE("a worker that receives no token holds nobody up", "[e2e]") {
  const TempDir dir;
  std::string text;
  for (int i = 0; i < 300; ++i) text += "In the beginning God created the heaven and the earth. ";
  write_bytes(dir / "text.txt", text);
  REQUIRE(test::jevons(fmt::format("data prepare {} -o {}", dir / "text.txt", dir / "text")).code == 0);
  const auto train = [&](int workers, const std::string& layout) {
    const std::string run = dir / fmt::format("run{}", workers);
    write_bytes(dir / "collapse.yaml",
                fmt::format("name: collapse\nrun_dir: {}\n"
                            "model: {{vocab_size: 256, num_layers: 3, hidden_size: 72, ffn_hidden_size: 88, "
                            "num_heads: 12, num_kv_heads: 4, head_dim: 10, seq_len: 40, qk_norm: head, moe: "
                            "{{num_experts: 24, top_k: 3, expert_hidden_size: 40, num_shared_experts: 2, "
                            "first_dense_layers: 1, router: {{score: sigmoid, groups: 6, groups_kept: 3, "
                            "selection_bias: true}}}}}}\n"
                            "data: {{train: [{{path: {}}}]}}\n"
                            "optimizer: {{kind: sgd, lr: 1, clip_norm: 0}}\nschedule: {{kind: constant}}\n"
                            "train: {{steps: 4, global_batch_size: 16, micro_batch_size: 2}}\n"
                            "watchdog: {{stall_seconds: 15}}\nthreads: 1\n",
                            run, dir / "text"));
    const test::Ran ran = test::mpirun(workers, "train " + (dir / "collapse.yaml") + " " + layout);
    INFO(ran.output);
    REQUIRE(ran.code == 0);
    return result_of(run);
  };
  const Result one = train(1, ""), many = train(4, "parallel.tp=2 parallel.ep=2");
  REQUIRE(many.losses.size() == 4);
  for (std::size_t i = 0; i < 3; ++i) CHECK(many.losses[i] == Approx(one.losses[i]).epsilon(1e-3));
}

}  // namespace jevons
