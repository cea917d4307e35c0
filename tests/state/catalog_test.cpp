// Which checkpoint a run stands on, and which steps are its own.
#include "trainer/checkpoint/catalog.h"

#include <filesystem>

#include "tests/state/checkpoint_bed.h"
#include "tests/state/scratch.h"
#include "tests/support/catch.h"
#include "trainer/checkpoint/inspect.h"

namespace jevons::test {
namespace {

namespace fs = std::filesystem;

// A run's checkpoints/ as launches leave it.
class Checkpoints {
 public:
  std::string dir() const { return scratch_.path("checkpoints"); }
  std::string step(std::int64_t step) const { return dir() + fmt::format("/step-{:08}", step); }
  // A launch begins with `checkpoint`, as Trainer does.
  void begin(const std::string& checkpoint) {
    Catalog catalog(dir());
    const std::uint64_t branch =
        catalog.stands_on(checkpoint) ? catalog.branch_of_return() : catalog.write_return(checkpoint);
    state_ = checkpoint.empty() ? some_state(0) : CheckpointReader(checkpoint).state();
    state_.lineage = lineage_from(state_, catalog.origin_of(checkpoint), branch);
    last_ = catalog.last_sequence();
  }
  void save(std::int64_t step) {
    state_.step = step, state_.sequence = ++last_;
    save_filled(dir(), state_, 1, Sharding::kRows);
  }
  // The number of the checkpoint that the run stands on; -1: its beginning.
  std::int64_t standing() const {
    const auto path = latest_checkpoint(dir());
    return path ? CheckpointReader(*path).state().step : -1;
  }
  std::string left_behind() const {
    std::string steps;
    const Catalog catalog(dir());
    for (const auto& [path, state] : catalog.entries()) {
      if (catalog.lineage().branch_at(state.step) != state.lineage.branch())
        steps += fmt::format(" {}", state.step);
    }
    return steps;
  }

 private:
  Scratch scratch_;
  TrainState state_;
  std::uint64_t last_ = 0;
};

}  // namespace

TEST_CASE("a line of steps: going back leaves steps behind") {
  Lineage line;
  CHECK(line.branch() == 0);
  CHECK(line.branch_at(5) == 0);
  CHECK(line.end_of(0) == std::numeric_limits<std::int64_t>::max());
  line.take({3, 10});
  line.take({6, 15});
  CHECK(line.branch_at(10) == 0);
  CHECK(line.branch_at(11) == 3);
  CHECK(line.branch_at(16) == 6);
  CHECK(line.end_of(0) == 10);
  CHECK(line.end_of(3) == 15);
  line.take({9, 10});  // below both
  CHECK(line.branches() == std::vector<Branch>{{9, 10}});
  CHECK_FALSE(line.end_of(3));
  CHECK(Lineage(std::vector<Branch>{{3, 10}, {6, 15}, {9, 10}}) == line);
}

TEST_CASE("the newest checkpoint is the one that the run made last, not the one with the highest step") {
  Checkpoints run;
  run.begin("");
  for (const std::int64_t step : {5, 10, 15, 20}) run.save(step);
  CHECK(run.standing() == 20);
  run.begin(run.step(10));
  CHECK(run.standing() == 10);  // killed before it saves
  CHECK(run.left_behind() == " 15 20");
  run.begin(run.step(10));
  run.save(13);
  CHECK(run.standing() == 13);
  CHECK(run.left_behind() == " 15 20");
  CHECK(find_checkpoint(fs::path(run.dir()).parent_path().string()) == run.step(13));
  run.begin(run.step(13));  // goes on
  run.save(15);             // over the one that was left behind
  CHECK(run.standing() == 15);
  CHECK(run.left_behind() == " 20");
  run.begin(run.step(20));  // changes its mind
  run.save(25);
  CHECK(run.standing() == 25);
  CHECK(run.left_behind() == " 13 15");
  run.begin("");
  CHECK(run.standing() == -1);
  const std::string error = error_of([&] { find_checkpoint(run.dir()); });
  CHECK(error.find("went back to its beginning") != std::string::npos);
  CHECK(error.find("step-00000025") != std::string::npos);
  run.save(2);
  CHECK(run.standing() == 2);
  CHECK(run.left_behind() == " 5 10 20 13 15 25");
}

TEST_CASE("inspect says which checkpoints a run has left behind") {
  Checkpoints run;
  run.begin("");
  for (const std::int64_t step : {5, 10, 20}) run.save(step);
  CHECK(describe_checkpoint(run.step(20)).find("branch") == std::string::npos);
  run.begin(run.step(10));
  run.save(13);
  for (const std::int64_t step : {13, 20}) {
    const std::string text = describe_checkpoint(run.step(step));
    INFO(text);
    CHECK(text.find("the run went back:\n  to step 10, from there on it is branch 4\n") != std::string::npos);
    CHECK(text.find("step-00000020       0          no, left behind\n") != std::string::npos);
    CHECK(text.find("step-00000013       4                      yes\n") != std::string::npos);
  }
}

TEST_CASE("a copied run stands where the run stood, whatever the times of its files") {
  Checkpoints run;
  run.begin("");
  for (const std::int64_t step : {10, 20}) run.save(step);
  run.begin(run.step(10));
  const Scratch elsewhere;
  fs::copy(run.dir(), elsewhere.path("copy"), fs::copy_options::recursive);
  fs::remove_all(run.dir());
  for (const auto& entry : fs::recursive_directory_iterator(elsewhere.path("copy"))) {
    fs::last_write_time(entry.path(), fs::file_time_type::clock::now() - std::chrono::hours(7));
  }
  CHECK(latest_checkpoint(elsewhere.path("copy")) == elsewhere.path("copy/step-00000010"));
}

TEST_CASE("a run that goes on from another run's checkpoint stands on that until it saves") {
  Checkpoints other, run;
  other.begin("");
  other.save(100);
  run.begin("");
  run.save(10);
  run.begin(other.step(100));
  CHECK(run.standing() == 100);
  CHECK(run.left_behind() == " 10");
  run.save(110);
  CHECK(run.standing() == 110);
  run.begin(other.step(100));
  fs::remove_all(other.dir());
  ExitCode code = ExitCode::kOk;
  CHECK(error_of([&] { run.standing(); }, &code).find("the run went back to this checkpoint") !=
        std::string::npos);
  CHECK(code == ExitCode::kData);
}

TEST_CASE("checkpoints of version 0.1.0 are older than those that count, and ordered by step") {
  const Scratch scratch;
  const std::string dir = scratch.path();
  for (const std::int64_t step : {20, 10}) save_filled(dir, some_state(step), 1, Sharding::kRows);
  CHECK(latest_checkpoint(dir) == scratch.path("step-00000020"));
  TrainState state = some_state(12);
  state.sequence = Catalog(dir).last_sequence() + 1;
  save_filled(dir, state, 1, Sharding::kRows);
  CHECK(latest_checkpoint(dir) == scratch.path("step-00000012"));
}

TEST_CASE("a damaged manifest is an error where it may be the newest, else a warning") {
  Checkpoints run;
  run.begin("");
  for (const std::int64_t step : {5, 10, 20}) run.save(step);
  write_contents(run.step(5) + "/manifest.pb", "torn");
  CHECK(run.standing() == 20);
  write_contents(run.step(20) + "/manifest.pb", "torn");
  ExitCode code = ExitCode::kOk;
  CHECK(error_of([&] { run.standing(); }, &code).find("step-00000020/manifest.pb: damaged") !=
        std::string::npos);
  CHECK(code == ExitCode::kData);
  run.begin(run.step(10));  // named by a person: the damaged one is in no one's way any more
  CHECK(run.standing() == 10);
  run.save(15);
  CHECK(run.standing() == 15);
  write_contents(run.dir() + "/return.json", "{");
  CHECK(error_of([&] { run.standing(); }, &code).find("return.json: damaged") != std::string::npos);
}

}  // namespace jevons::test
