// Every layout goes on from every layout's checkpoint: losses as in the straight run, to a bound; bit for bit
// where both layouts are the same, and everywhere under numerics: layout_invariant.
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "kernels/gemm.h"
#include "tests/data/temp_files.h"
#include "tests/support/catch.h"
#include "tests/trainer/training_run.h"
#include "trainer/checkpoint/compare.h"

namespace jevons {
namespace {

using Losses = std::map<std::int64_t, double>;

struct Workers {
  std::string name;
  int count;
  std::vector<std::string> options;
};

// ep folds over dp and tp: "ep2" is one pair of workers that share the experts, "dp2 ep2" two such pairs.
const std::vector<Workers> kAll = {{"1", 1, {}},
                                   {"dp2", 2, {}},
                                   {"ep2", 2, {"parallel.ep=2"}},
                                   {"tp2", 2, {"parallel.tp=2"}},
                                   {"dp2 ep2", 4, {"parallel.ep=2"}},
                                   {"tp2 ep2", 2, {"parallel.tp=2", "parallel.ep=2"}},
                                   {"dp4 ep4", 4, {"parallel.ep=4"}}};

// Runs of 8 steps, saved after 4 and at the end, and second halves of them elsewhere.
class Matrix {
 public:
  explicit Matrix(std::vector<std::string> options) : options_(std::move(options)) {
    options_.emplace_back("checkpoint.interval=4");
    test::write_corpus(dir_ / "corpus");
  }

  Losses straight(const Workers& workers) { return run(workers, workers.name, "never"); }
  // Steps 5 to 8 from the checkpoint of step 4 that straight(from) left.
  Losses go_on(const Workers& from, const Workers& to) {
    return run(to, second(from, to), checkpoint(from.name, 4));
  }
  static std::string second(const Workers& from, const Workers& to) { return from.name + " then " + to.name; }
  // Whether all tensors after the last step are the same, and if not, which are not.
  std::string difference(const std::string& a, const std::string& b) {
    std::string names;
    for (const TensorDifference& d :
         compare_tensors(CheckpointReader(checkpoint(a, 8)), CheckpointReader(checkpoint(b, 8)))) {
      if (d.kind != TensorDifference::Kind::kEqual) names += d.name + " ";
    }
    return names;
  }

 private:
  std::string checkpoint(const std::string& run, int step) const {
    return fmt::format("{}/checkpoints/step-{:08}", dir_ / run, step);
  }
  Losses run(const Workers& workers, const std::string& name, const std::string& resume) {
    std::vector<std::string> options = options_;
    options.insert(options.end(), workers.options.begin(), workers.options.end());
    const ExitCode code = test::train(workers.count, test::tiny_yaml(dir_ / "corpus", dir_ / name), options,
                                      {.resume = resume, .init_from = {}, .deadline = {}});
    CHECK(code == ExitCode::kOk);
    return test::losses_of(dir_ / name);
  }

  std::vector<std::string> options_;
  TempDir dir_;
};

Losses second_half(Losses losses) {
  std::erase_if(losses, [](const auto& step) { return step.first <= 4; });
  return losses;
}

// Every layout goes on from every layout's checkpoint. Losses are about 4; sums in another order move them by
// rounding, which four steps of AdamW amplify. Measured: 5e-8 at most.
void check_every_pair(Matrix& matrix, const std::vector<Workers>& layouts) {
  constexpr double kBound = 1e-6;
  double largest = 0;
  for (const Workers& from : layouts) {
    const Losses want = second_half(matrix.straight(from));
    REQUIRE(want.size() == 4);
    for (const Workers& to : layouts) {
      INFO(matrix.second(from, to));
      const Losses got = matrix.go_on(from, to);
      if (from.name == to.name) CHECK(got == want);
      REQUIRE(got.size() == 4);
      for (const auto& [step, loss] : got) {
        INFO("step " << step);
        CHECK(std::abs(loss - want.at(step)) < kBound);
        largest = std::max(largest, std::abs(loss - want.at(step)));
      }
    }
  }
  CHECK(largest > 0);  // layouts round differently: the comparison sees them
}

// Latent attention, its queries and keys made again in the backward pass.
const std::vector<std::string> kLatent = {"model.num_kv_heads=0",         "model.mla.kv_lora_rank=12",
                                          "model.mla.q_lora_rank=20",     "model.mla.qk_nope_head_dim=6",
                                          "model.mla.qk_rope_head_dim=4", "model.mla.v_head_dim=8",
                                          "model.recompute=selective"};

}  // namespace

TEST_CASE("resume matrix: every layout goes on from every layout's checkpoint", "[resume][ranks]") {
  Matrix matrix({});
  check_every_pair(matrix, kAll);
}

TEST_CASE("resume matrix: latent attention goes on from other layouts' checkpoints", "[resume][ranks]") {
  Matrix matrix(kLatent);
  check_every_pair(matrix, {kAll[0], kAll[4], kAll[5]});
}

TEST_CASE("resume matrix: with and without a pipeline and parts of sequences", "[resume][ranks]") {
  const std::vector<Workers> layouts = {kAll[0],
                                        kAll[3],
                                        {"pp2 dp2", 4, {"parallel.pp=2", "parallel.ep=2"}},
                                        {"pp2 v", 2, {"parallel.pp=2", "parallel.schedule=zb_v"}},
                                        {"pp4", 4, {"parallel.pp=4"}},
                                        {"cp2 ep2", 2, {"parallel.cp=2", "parallel.ep=2"}},
                                        {"pp2 cp2", 4, {"parallel.pp=2", "parallel.cp=2"}}};
  Matrix matrix({"model.num_layers=4", "model.tie_embeddings=true", "model.mtp.depth=1"});
  check_every_pair(matrix, layouts);
}

TEST_CASE("resume matrix: with layout-invariant numerics a change of layout changes no bit",
          "[resume][ranks]") {
  if (!gemm_backend(DType::kF32).row_invariant) return;
  std::vector<std::string> options = GENERATE(std::vector<std::string>{"model.mtp.depth=1"}, kLatent);
  options.emplace_back("numerics=layout_invariant");
  Matrix matrix(options);
  const Losses want = matrix.straight(kAll.front());
  std::vector<Workers> layouts = kAll;
  layouts.push_back({"pp2 dp2", 4, {"parallel.pp=2"}});
  for (const Workers& from : layouts) {
    if (from.name.starts_with("tp")) continue;
    if (from.name != kAll.front().name) CHECK(matrix.straight(from) == want);
    for (const Workers& to : layouts) {
      if (to.name.starts_with("tp")) continue;
      INFO(matrix.second(from, to));
      CHECK(matrix.go_on(from, to) == second_half(want));
      CHECK(matrix.difference(kAll.front().name, matrix.second(from, to)) == "");
    }
  }
}

TEST_CASE("resume matrix: Muon and bf16 moments go on elsewhere with the same bits", "[resume][ranks]") {
  if (!gemm_backend(DType::kF32).row_invariant) return;
  std::vector<std::string> options = kLatent;
  const std::vector<std::string> optimizer =
      GENERATE(std::vector<std::string>{"optimizer.kind=muon", "optimizer.moments=bf16"},
               std::vector<std::string>{"optimizer.moments=bf16_stochastic", "optimizer.beta2=0.999"});
  options.insert(options.end(), optimizer.begin(), optimizer.end());
  options.emplace_back("numerics=layout_invariant");
  Matrix matrix(options);
  const Workers &one = kAll[0], &four = kAll[4];
  const Losses want = matrix.straight(one);
  CHECK(matrix.straight(four) == want);
  CHECK(matrix.go_on(one, four) == second_half(want));
  CHECK(matrix.go_on(four, one) == second_half(want));
  for (const std::string& second : {four.name, matrix.second(one, four), matrix.second(four, one)})
    CHECK(matrix.difference(one.name, second) == "");
}

}  // namespace jevons
