// Which checkpoints go. One process decides and deletes: the ranks that save are its threads.
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
    saved.push_back({step, loss > 0 ? std::optional(Validation{loss, "d"}) : std::nullopt});
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
  std::uint64_t sequence = 0;
  for (const auto& [step, loss] : loss_by_step) {
    TrainState state = some_state(step);
    state.sequence = ++sequence;
    if (loss > 0) set_validation(state, {loss, "d"});
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

TEST_CASE("retention: what the run has left behind stays until enough was made after it") {
  // 10 to 50, then back to 20 and on.
  std::vector<SavedStep> saved = saved_with({5, 4, 1, 3, 2});
  for (std::size_t i = 2; i < 5; ++i) saved[i].left_behind = true;
  const auto then = [&](std::int64_t step) {
    saved.push_back({step, Validation{4.5, "d"}});
    return superfluous_steps(saved, {.keep_last = 2, .keep_every = 20, .keep_best = 1});
  };
  CHECK(then(25) == Steps{10, 30, 40});      // 20: of the run; 50: only one was made after it
  CHECK(then(35) == Steps{10, 30, 40, 50});  // best: 20
}

TEST_CASE("retention: the best are those of today's validation data") {
  std::vector<SavedStep> saved = saved_with({1, 2, 3});
  const Retention best{.keep_last = 1, .keep_best = 1};
  saved.push_back({40, std::nullopt});
  CHECK(superfluous_steps(saved, best) == Steps{20, 30});  // no newer data are known
  saved.push_back({50, Validation{9, "other"}});
  saved.push_back({60, Validation{8, "other"}});
  saved.push_back({70, Validation{9, "other"}});
  CHECK(superfluous_steps(saved, best) == Steps{10, 20, 30, 40, 50});
}

TEST_CASE("retention: a validation survives the passport to the last bit") {
  TrainState state;
  CHECK_FALSE(validation_of(state));
  for (double loss : {0.1, 1.0 / 3, 1e-300, 12345.678901234567}) {
    set_validation(state, {loss, "a1"});
    REQUIRE(validation_of(state));
    CHECK(validation_of(state)->loss == loss);
    CHECK(validation_of(state)->data == "a1");
  }
  TrainState unknown;
  set_validation(unknown, {std::nan(""), "a1"});
  CHECK_FALSE(validation_of(unknown));
  unknown.passport["validation_loss"] = "1.5";  // as version 0.1.0 wrote it
  CHECK(validation_of(unknown)->data.empty());
}

TEST_CASE("retention: directories go, manifest first; what is foreign or under way stays", "[threads]") {
  const Scratch scratch;
  const std::string dir = scratch.path();
  save_steps(dir, {{10, 3}, {20, 1}, {30, 2}, {40, 5}});
  fs::create_directory(scratch.path("step-00000035"));  // a save that died
  write_contents(scratch.path("step-00000035/rank-00000.safetensors.tmp"), "torn");
  write_contents(scratch.path("step-00000010/notes.txt"), "mine");
  fs::create_directory(scratch.path("step-00000060"));

  CHECK(apply_retention(dir, 40, {.keep_last = 1, .keep_best = 1}) == Steps{10, 30});
  CHECK(committed_steps(dir) == Steps{20, 40});
  CHECK_FALSE(fs::exists(scratch.path("step-00000030")));
  CHECK_FALSE(fs::exists(scratch.path("step-00000035")));
  CHECK(fs::exists(scratch.path("step-00000060")));
  CHECK(files_of(scratch.path("step-00000010")).size() == 1);
  CheckpointReader(scratch.path("step-00000020")).verify();
  remove_unfinished(dir, 1000);
  CHECK_FALSE(fs::exists(scratch.path("step-00000060")));
  CHECK(committed_steps(dir) == Steps{20, 40});
}

TEST_CASE("retention: checkpoints that a run has left behind are deleted whatever their step", "[threads]") {
  const Scratch scratch;
  const std::string dir = scratch.path();
  save_steps(dir, {{10, 0}, {20, 0}, {30, 0}});  // sequence 1 to 3
  TrainState state = some_state(12);
  state.lineage.take({4, 10});
  std::uint64_t sequence = 4;
  for (const std::int64_t step : {12, 14}) {
    state.step = step, state.sequence = ++sequence;
    save_filled(dir, state, 2, Sharding::kRows);
    apply_retention(dir, step, {.keep_last = 2});
    CHECK(committed_steps(dir) == (step == 12 ? Steps{10, 12, 30} : Steps{12, 14}));
  }
}

TEST_CASE("retention: nothing is deleted unless the newest is committed", "[threads]") {
  const Scratch scratch;
  save_steps(scratch.path(), {{10, 0}, {20, 0}});
  fs::remove(scratch.path("step-00000020/manifest.pb"));
  CHECK(error_of([&] { apply_retention(scratch.path(), 20, {.keep_last = 1}); }).find("not made last") !=
        std::string::npos);
  CHECK(committed_steps(scratch.path()) == Steps{10});
}

}  // namespace jevons::test
