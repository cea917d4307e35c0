#include "trainer/checkpoint/retention.h"

#include <filesystem>

#include "tests/state/checkpoint_bed.h"
#include "tests/state/scratch.h"
#include "tests/support/catch.h"
#include "trainer/checkpoint/catalog.h"
#include "trainer/checkpoint/manifest.h"

namespace jevons::test {
namespace {

namespace fs = std::filesystem;
using Steps = std::vector<std::int64_t>;

// Steps 10, 20, ... with these losses; 0 stands for a step that was not validated.
std::vector<SavedStep> saved_with(const std::vector<double>& losses) {
  std::vector<SavedStep> saved;
  for (double loss : losses) {
    const auto step = static_cast<std::int64_t>(saved.size() + 1) * 10;
    saved.push_back({step, loss > 0 ? std::optional(loss) : std::nullopt});
  }
  return saved;
}

Steps committed_steps(const std::string& dir) {
  Steps steps;
  for (const auto& [step, path] : steps_in(dir)) {
    if (is_committed(path)) steps.push_back(step);
  }
  return steps;
}

void save_steps(const std::string& dir, const std::map<std::int64_t, double>& loss_by_step) {
  for (const auto& [step, loss] : loss_by_step) {
    TrainState state = some_state(step);
    if (loss > 0) set_validation_loss(state, loss);
    save_filled(dir, state, 2, Sharding::kRows);
  }
}

}  // namespace

TEST_CASE("retention: each rule keeps what it names") {
  const auto saved = saved_with({5, 1, 4, 0, 3, 2});
  CHECK(superfluous_steps(saved, {}).empty());
  CHECK(superfluous_steps(saved, {.keep_every = 20, .keep_best = 1}).empty());
  CHECK(superfluous_steps(saved, {.keep_last = 1}) == Steps{10, 20, 30, 40, 50});
  CHECK(superfluous_steps(saved, {.keep_last = 2}) == Steps{10, 20, 30, 40});
  CHECK(superfluous_steps(saved, {.keep_last = 9}).empty());
  CHECK(superfluous_steps(saved, {.keep_last = 1, .keep_every = 20}) == Steps{10, 30, 50});
  CHECK(superfluous_steps(saved, {.keep_last = 1, .keep_best = 1}) == Steps{10, 30, 40, 50});
  CHECK(superfluous_steps(saved, {.keep_last = 1, .keep_best = 3}) == Steps{10, 30, 40});
  CHECK(superfluous_steps(saved, {.keep_last = 1, .keep_best = 99}) == Steps{40});
  CHECK(superfluous_steps(saved_with({2, 2, 2, 9}), {.keep_last = 1, .keep_best = 1}) == Steps{10, 20});
}

TEST_CASE("retention: a validation loss survives the passport to the last bit") {
  TrainState state;
  CHECK_FALSE(validation_loss_of(state));
  for (double loss : {0.1, 1.0 / 3, 1e-300, 12345.678901234567}) {
    set_validation_loss(state, loss);
    CHECK(validation_loss_of(state) == loss);
  }
  set_validation_loss(state, std::nan(""));
  CHECK_FALSE(validation_loss_of(state));
}

TEST_CASE("retention: directories go, manifest first; what is newer or foreign stays") {
  const Scratch scratch;
  const std::string dir = scratch.path();
  save_steps(dir, {{10, 3}, {20, 1}, {30, 2}, {40, 5}, {50, 0.5}});
  fs::create_directory(scratch.path("step-00000035"));  // a save that died
  write_contents(scratch.path("step-00000035/rank-00000.safetensors.tmp"), "torn");
  write_contents(scratch.path("step-00000010/notes.txt"), "mine");
  fs::create_directory(scratch.path("step-00000060"));  // later than the committed step

  CHECK(apply_retention(dir, 40, {.keep_last = 1, .keep_best = 1}) == Steps{10, 30});
  CHECK(committed_steps(dir) == Steps{20, 40, 50});
  CHECK_FALSE(fs::exists(scratch.path("step-00000030")));
  CHECK_FALSE(fs::exists(scratch.path("step-00000035")));
  CHECK(fs::exists(scratch.path("step-00000060")));
  CHECK(files_of(scratch.path("step-00000010")).size() == 1);
  CheckpointReader(scratch.path("step-00000020")).verify();
}

TEST_CASE("retention: nothing is deleted unless the newest is committed") {
  const Scratch scratch;
  save_steps(scratch.path(), {{10, 0}, {20, 0}});
  fs::remove(scratch.path("step-00000020/manifest.pb"));
  CHECK(error_of([&] { apply_retention(scratch.path(), 20, {.keep_last = 1}); }) != "");
  CHECK(committed_steps(scratch.path()) == Steps{10});
}

}  // namespace jevons::test
