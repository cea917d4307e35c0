// jevons score under mpirun: a run of a pipeline is scored on any layout.
#include <array>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/data/temp_files.h"
#include "tests/e2e/program.h"
#include "tests/trainer/training_run.h"
#include "trainer/io/npy.h"

namespace jevons {

TEST_CASE("a run is scored on layouts that it was not trained on", "[e2e]") {
  const TempDir dir;
  test::write_corpus(dir / "corpus");
  write_bytes(dir / "run.yaml", test::tiny_yaml(dir / "corpus", dir / "run"));
  const test::Ran trained = test::mpirun(2, "train " + (dir / "run.yaml") + " parallel.pp=2 train.steps=24");
  INFO(trained.output);
  REQUIRE(trained.code == 0);
  // The corpus's own rule; see write_corpus.
  constexpr std::array<std::int64_t, 2> kShape = {3, 11};
  std::string ids = format_npy_header("|u1", kShape);
  for (int i = 0, id = 1; i < 33; ++i, id = (id * 5 + 3) % 64) ids += static_cast<char>(id);
  write_bytes(dir / "ids.npy", ids);
  const auto score = [&](int workers, const std::string& more) {
    return test::mpirun(workers,
                        fmt::format("score {} --ids {} device=cpu {}", dir / "run", dir / "ids.npy", more));
  };
  const auto loss = [&](int workers, const std::string& layout) {
    INFO(workers << " workers, " << layout);
    const test::Ran ran = score(workers, layout);
    INFO(ran.output);
    REQUIRE(ran.code == 0);
    const std::size_t begin = ran.output.find("{\"loss\"");
    REQUIRE(begin != std::string::npos);
    const auto said = nlohmann::json::parse(ran.output.substr(begin, ran.output.find('\n', begin) - begin));
    CHECK(said["target_tokens"] == 30);
    return said["loss"].get<double>();
  };
  const double one = loss(1, "");
  CHECK(one < 4);  // untrained: 4.16
  CHECK(loss(2, "parallel.pp=2") == Approx(one).epsilon(1e-6));
  CHECK(loss(2, "parallel.tp=2") == Approx(one).epsilon(1e-6));
  CHECK(loss(2, "parallel.ep=2") == Approx(one).epsilon(1e-6));

  const test::Ran refused = score(2, fmt::format("--logits {} parallel.pp=2", dir / "logits.npy"));
  CHECK(refused.code == 2);
  CHECK_THAT(refused.output, Catch::Matchers::ContainsSubstring("parallel.pp = 1"));
  CHECK_FALSE(std::filesystem::exists(dir / "logits.npy"));
}

}  // namespace jevons
