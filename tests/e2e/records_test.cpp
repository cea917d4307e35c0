// What a run leaves in its directory: the configuration that ran, and nothing written over a stranger's file.
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/data/temp_files.h"
#include "tests/e2e/program.h"
#include "tests/trainer/training_run.h"

namespace jevons {
namespace {

namespace fs = std::filesystem;
using test::jevons;
using test::mpirun;
using test::Ran;

void check(const Ran& ran, int code, const std::string& part) {
  INFO(ran.output);
  CHECK(ran.code == code);
  CHECK(contains(ran.output, part));
}

// A corpus and tiny.yaml, which trains on it into run/.
struct Place {
  TempDir dir;
  std::string config = dir / "tiny.yaml", run = dir / "run";
  Place() {
    test::write_corpus(dir / "corpus");
    write_bytes(config, test::tiny_yaml(dir / "corpus", run));
  }
};

}  // namespace

TEST_CASE("config.yaml is the run: what was found out stands in it, and as input it gives the same run",
          "[e2e]") {
  const Place place;
  write_bytes(place.dir / "prices.yaml",
              "prices: [{device: cpu, per_device_hour: 0.5, currency: EUR, since: 2020-01-01, source: x}]\n");
  const std::string options = fmt::format(
      " parallel.ep=2 cost.price_per_device_hour=-1 cost.prices={} train.steps=3", place.dir / "prices.yaml");
  check(mpirun(2, "train " + place.config + options), 0, "step 3/3");
  const std::string text = read_bytes(place.run + "/config.yaml");
  INFO(text);
  for (const char* line : {"\ndevice: cpu\n", "\n  dp: 2\n", "\n  ep: 2\n",
                           "\n  price_per_device_hour: 0.5\n", "\n  currency: EUR\n", "\n  steps: 3\n"}) {
    CHECK(contains(text, line));
  }
  CHECK_FALSE(contains(text, "\nthreads: 0\n"));
  const auto passport = nlohmann::json::parse(read_bytes(place.run + "/passport.json"));
  CHECK(passport["config"] == text);

  fs::copy_file(place.run + "/config.yaml", place.dir / "again.yaml");
  check(mpirun(2, fmt::format("train {} run_dir={}", place.dir / "again.yaml", place.dir / "again")), 0,
        "step 3/3");
  CHECK(test::losses_of(place.dir / "again") == test::losses_of(place.run));
  const std::string again = read_bytes(place.dir / "again/config.yaml");
  CHECK(again.substr(again.find("\nmodel:")) == text.substr(text.find("\nmodel:")));
}

TEST_CASE("the configuration is read once, by one worker", "[e2e]") {
  const Place place;
  // A pipe gives its text to whoever reads first, and mpirun's standard input goes to rank 0.
  const Ran ran = test::shell(fmt::format(
      "cat {} | mpirun --bind-to none -n 2 {} train /dev/stdin train.steps=2", place.config, JEVONS_PROGRAM));
  check(ran, 0, "step 2/2");
  CHECK(contains(read_bytes(place.run + "/config.yaml"), "\n  dp: 2\n"));
}

TEST_CASE("a run does not write over files of somebody else", "[e2e]") {
  const Place place;
  fs::create_directories(place.dir / "mine");
  // Its own input, which the resolved configuration would replace.
  const std::string mine = place.dir / "mine/config.yaml", text = read_bytes(place.config) + "# by hand\n";
  write_bytes(mine, text);
  for (const char* name : {"config.yaml", "metrics.jsonl", "ledger.jsonl", "lock"}) {
    INFO(name);
    fs::rename(mine, place.dir / (std::string("mine/") + name));
    const Ran ran = mpirun(2, fmt::format("train {} run_dir={}", place.config, place.dir / "mine"));
    check(ran, 2, std::string("mine/") + name + ": is there and is not ");
    CHECK(read_bytes(place.dir / (std::string("mine/") + name)) == text);
    CHECK(std::distance(fs::directory_iterator(place.dir / "mine"), {}) == 1);
    fs::rename(place.dir / (std::string("mine/") + name), mine);
  }
  // A directory that holds other files, and one that a start has left that was killed early.
  fs::rename(mine, place.dir / "mine/notes.txt");
  write_bytes(place.dir / "mine/ledger.jsonl", "{\"kind\":\"lau");
  write_bytes(place.dir / "mine/lock", "process 1 on host x");
  check(jevons(fmt::format("train {} run_dir={} train.steps=1", place.config, place.dir / "mine")), 0,
        "step 1/1");
  CHECK(read_bytes(place.dir / "mine/notes.txt") == text);
}

TEST_CASE("cost names what it cannot count, and fails when nothing is left", "[e2e]") {
  const Place place;
  check(jevons("train " + place.config + " train.steps=1"), 0, "step 1/1");
  fs::create_directories(place.dir / "x");
  const std::string torn = place.dir / "x/ledger.jsonl";
  write_bytes(torn, read_bytes(place.run + "/ledger.jsonl").substr(0, 200));
  check(jevons("cost " + (place.dir / "x")), 65, torn + ": no launch of it can be counted: line 1: ");
  const std::string all = place.dir / "";
  check(jevons("cost " + all), 0, "note: " + torn + ": no launch of it can be counted");
  const Ran json = jevons(fmt::format("cost {} --json 2>{}", all, place.dir / "log"));
  CHECK(nlohmann::json::parse(json.output)["unusable"].size() == 1);
  CHECK(contains(read_bytes(place.dir / "log"), torn));
  check(jevons("cost " + all + " --project nosuch"), 2,
        "no launch of project 'nosuch' here; there are: default");
  write_bytes(place.dir / "hi.txt", "hi\nthere\n");
  check(jevons("cost " + (place.dir / "hi.txt")), 65,
        "hi.txt: no launch of it can be counted: line 1: torn or not JSON");
}

}  // namespace jevons
