#include "trainer/checkpoint/compare.h"

#include <cmath>

#include "tests/state/checkpoint_bed.h"
#include "tests/state/scratch.h"
#include "tests/support/catch.h"
#include "tests/support/ranks.h"

namespace jevons::test {
namespace {

using Kind = TensorDifference::Kind;

// A checkpoint of one rank with these vectors.
std::string save_vectors(const std::string& dir, std::map<std::string, std::vector<float>> vectors) {
  std::string path;
  run_ranks(1, [&](Communicator& world) {
    std::vector<TensorBox> boxes;
    for (auto& [name, values] : vectors) {
      const auto n = static_cast<std::int64_t>(values.size());
      boxes.push_back({name, {n}, {0}, {values.data(), {n}, DType::kF32, Device::kCpu}});
    }
    path = save_checkpoint(world, dir, some_state(1), boxes);
  });
  return path;
}

}  // namespace

TEST_CASE("compare: the same state in two layouts is equal", "[ranks]") {
  const Scratch scratch;
  const CheckpointReader a(save_filled(scratch.path("a"), some_state(1), 1, Sharding::kRows));
  const CheckpointReader b(save_filled(scratch.path("b"), some_state(2), 3, Sharding::kFlat));
  const auto differences = compare_tensors(a, b);
  CHECK(differences.size() == a.tensors().size());
  for (const TensorDifference& d : differences) CHECK(d.kind == Kind::kEqual);
  CHECK(describe_differences(differences) == "all 6 tensors are equal, bit for bit\n");
}

TEST_CASE("compare: largest differences, signed zeros, NaN, shapes, missing tensors") {
  const Scratch scratch;
  const float nan = std::nanf("");
  const CheckpointReader a(save_vectors(scratch.path("a"), {{"values", {1, 2, 100, 5}},
                                                            {"zero", {0.0F, 1}},
                                                            {"nan", {nan, 1}},
                                                            {"same_nan", {nan}},
                                                            {"shape", {1, 2}},
                                                            {"gone", {1}}}));
  const CheckpointReader b(save_vectors(scratch.path("b"), {{"values", {1, 3, 102, 5}},
                                                            {"zero", {-0.0F, 1}},
                                                            {"nan", {0, 1}},
                                                            {"same_nan", {nan}},
                                                            {"shape", {1, 2, 3}},
                                                            {"new", {1}}}));
  std::map<std::string, TensorDifference> by_name;
  for (const TensorDifference& d : compare_tensors(a, b)) by_name[d.name] = d;
  REQUIRE(by_name.size() == 7);
  const TensorDifference values = by_name["values"];
  CHECK(values.kind == Kind::kValues);
  CHECK(values.differing == 2);
  CHECK(values.elements == 4);
  CHECK(values.max_absolute == 2);
  CHECK(values.max_relative == 1.0 / 3);
  CHECK(by_name["zero"].differing == 1);
  CHECK(by_name["zero"].max_absolute == 0);
  CHECK(std::isinf(by_name["nan"].max_absolute));
  CHECK(by_name["same_nan"].kind == Kind::kEqual);
  CHECK(by_name["shape"].shapes == "f32 (2), f32 (3)");
  CHECK(by_name["gone"].kind == Kind::kOnlyInA);
  CHECK(by_name["new"].kind == Kind::kOnlyInB);
  const std::string text = describe_differences(compare_tensors(a, b));
  CHECK(text.find("only in the second") < text.find("only in the first"));
  CHECK(text.find("6 of 7 tensors differ") != std::string::npos);
}

}  // namespace jevons::test
