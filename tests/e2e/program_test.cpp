// The program as users start it: under mpirun, with good and with bad input. Exit codes and messages as in
// docs/cli.md.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/data/temp_files.h"
#include "tests/e2e/program.h"
#include "tests/trainer/training_run.h"

namespace jevons {
namespace {

namespace fs = std::filesystem;
using test::jevons;
using test::mpirun;
using test::Ran;

// A directory with a corpus and a configuration, tiny.yaml, that trains on it into run/.
class Workspace {
 public:
  Workspace() {
    test::write_corpus(dir_ / "corpus");
    write_bytes(config(), test::tiny_yaml(dir_ / "corpus", run()));
  }
  std::string config() const { return dir_ / "tiny.yaml"; }
  std::string run() const { return dir_ / "run"; }
  std::string operator/(const std::string& name) const { return dir_ / name; }

 private:
  TempDir dir_;
};

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t n = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
  return n;
}

void check(const Ran& ran, int code, const std::string& part) {
  INFO(ran.output);
  CHECK(ran.code == code);
  CHECK(contains(ran.output, part));
}

}  // namespace

TEST_CASE("help on every command", "[e2e]") {
  for (const char* command :
       {"", "train", "generate", "plan", "data", "data prepare", "data inspect", "config", "config show",
        "checkpoint", "checkpoint inspect", "checkpoint diff", "cost", "report", "doctor"}) {
    check(jevons(fmt::format("{} --help", command)), 0, "--help");
  }
  check(jevons("trian"), 2, "trian");
}

TEST_CASE("train, resume on another layout, inspect, generate, cost", "[e2e]") {
  const Workspace w;
  check(mpirun(2, "train " + w.config() + " parallel.ep=2 checkpoint.interval=4 train.steps=4"), 0,
        "step 4/4");
  check(mpirun(4, "train " + w.config() + " parallel.ep=4"), 0, "step 8/8");
  check(jevons("checkpoint inspect " + w.run()), 0, "layers.1.moe.experts.3.up");
  check(jevons("checkpoint verify " + w.run()), 0, "");
  check(jevons("generate " + w.run() + " --prompt 12 --max-tokens 5"), 0, "12");
  const Ran cost = jevons("cost --json " + w.run());
  check(cost, 0, "device");
  CHECK(nlohmann::json::accept(cost.output));
  check(jevons(fmt::format("cost {} --csv {} --sqlite {}", w.run(), w / "c.csv", w / "c.sqlite")), 0,
        "device-h");
  CHECK(contains(read_bytes(w / "c.csv"), "\r\n" + w.run()));
  CHECK(read_bytes(w / "c.sqlite").starts_with("SQLite format 3"));
  for (const char* file :
       {"config.yaml", "passport.json", "ledger.jsonl", "metrics.jsonl", "logs/rank-1.log"}) {
    INFO(file);
    CHECK(fs::exists(w.run() + "/" + file));
  }
}

TEST_CASE("the memory that the dry run predicts is the memory that a run takes", "[e2e]") {
  const Workspace w;
  // A dense model takes the same memory whatever its data.
  const Ran ran = mpirun(2, "train " + w.config() + " train.steps=1 model.moe.num_experts=0 parallel.tp=2");
  check(ran, 0, "predicted");
  const std::string line = ran.output.substr(ran.output.find("at most "));
  const auto measured = line.substr(8, line.find(", predicted") - 8);
  CHECK(contains(line, ", predicted " + measured + " "));
}

TEST_CASE("configuration errors end every rank with code 2", "[e2e]") {
  const Workspace w;
  const Ran unknown = mpirun(2, "train " + w.config() + " model.num_layer=2");
  check(unknown, 2, "num_layers");
  CHECK(count(unknown.output, "num_layer=2") <= 1);
  check(mpirun(3, "train " + w.config() + " parallel.dp=2"), 2, "would");
  check(mpirun(2, "train " + w.config() + " parallel.ep=3"), 2, "ep");
  check(mpirun(2, "train " + (w / "absent.yaml")), 2, "absent.yaml");
}

TEST_CASE("bad data ends every rank with code 65 and names the file", "[e2e]") {
  const Workspace w;
  check(mpirun(2, "train " + w.config() + " data.train.0.path=/nowhere/corpus"), 65, "/nowhere/corpus");
  const std::string bin = w / "corpus.bin";
  fs::resize_file(bin, fs::file_size(bin) - 1);
  check(mpirun(2, "train " + w.config()), 65, "corpus");
}

TEST_CASE("a flipped byte in a checkpoint is found and its tensor named", "[e2e]") {
  const Workspace w;
  check(mpirun(2, "train " + w.config() + " checkpoint.interval=4 train.steps=4"), 0, "step 4/4");
  const std::string file = w.run() + "/checkpoints/step-00000004/rank-00001.safetensors";
  std::string bytes = read_bytes(file);
  bytes[bytes.size() - 100] ^= 1;
  write_bytes(file, bytes);
  check(jevons("checkpoint verify " + w.run()), 65, "checksum mismatch");
  check(mpirun(2, "train " + w.config()), 65, "tensor '");
}

TEST_CASE("a loss that is not finite ends every rank with code 70", "[e2e]") {
  const Workspace w;
  check(mpirun(2, "train " + w.config() + " optimizer.lr=1e30 optimizer.clip_norm=0 train.max_bad_steps=2"),
        70, "in a row");
}

TEST_CASE("a time limit that the clock does not reach is no limit", "[e2e]") {
  const Workspace w;
  for (const char* minutes : {"153722868", "999999999", "1e300"}) {
    check(jevons(fmt::format("train {} --resume never train.steps=2 --exit-after-minutes {}", w.config(),
                             minutes)),
          0, "step 2/2");
  }
  check(jevons("train " + w.config() + " --resume never --exit-after-minutes 1e-9"), 75, "its time is up");
}

TEST_CASE("generate refuses what the model does not know before it prints", "[e2e]") {
  const Workspace w;
  check(jevons("train " + w.config() + " train.steps=1"), 0, "step 1/1");
  const Ran high = jevons("generate " + w.run() + " --prompt abc --max-tokens 2");
  check(high, 2, "--prompt: token 97 (\"a\") is not in the model");
  CHECK_FALSE(contains(high.output, "abc"));
  check(jevons("generate " + w.run() + " --prompt \"?!\" --max-tokens 2 --temperature 0"), 0, "?!");

  write_pair(w / "wide", TokenDType::kU16, {counting(0, 2000)});
  check(jevons(fmt::format("train {} run_dir={} model.vocab_size=2000 data.train.0.path={} train.steps=1",
                           w.config(), w / "run2", w / "wide")),
        0, "step 1/1");
  const Ran wide = jevons("generate " + (w / "run2") + " --prompt \"?!\"");
  check(wide, 2, "knows 2000 tokens, so they are not bytes");
  CHECK_FALSE(contains(wide.output, "?!"));
}

TEST_CASE("generate continues the lines of a file, as JSON, and says what they cost", "[e2e]") {
  const Workspace w;
  check(jevons("train " + w.config() + " train.steps=1"), 0, "step 1/1");
  write_bytes(w / "prompts", "12\n?!\n\n");
  const std::string command = "generate " + w.run() + " --max-tokens 5 --prompts ";
  const Ran ran = jevons(command + (w / "prompts") + " --at-once 2");
  check(ran, 0, "new ones in");
  CHECK(contains(ran.output, "per device-second"));
  std::vector<std::string> prompts;
  std::istringstream lines(ran.output);
  for (std::string line; std::getline(lines, line);) {
    if (line.front() != '{') continue;
    const auto answer = nlohmann::json::parse(line);
    prompts.push_back(answer["prompt"]);
    CHECK(answer["new_tokens"] == (answer["ended"] == true ? answer["new_tokens"].get<int>() : 5));
  }
  CHECK(prompts == std::vector<std::string>{"12", "?!", ""});
  write_bytes(w / "empty", "");
  check(jevons(command + (w / "empty")), 65, "no line, hence no prompt");
  write_bytes(w / "bad", "12\nabc\n");
  check(jevons(command + (w / "bad")), 2, "bad:2: token 97 (\"a\") is not in the model");
  check(jevons(command + (w / "none")), 65, "none");
  check(jevons(command + (w / "bad") + " --prompt x"), 2, "--prompt");
}

TEST_CASE("USR1 saves and ends with code 75; the same command finishes the run", "[e2e]") {
  const Workspace w;
  const std::string train = "train " + w.config() + " train.steps=100000 checkpoint.interval=0";
  const Ran stopped = test::shell(fmt::format("{} & pid=$!; sleep 5; kill -USR1 $pid; wait $pid",
                                              test::job_of(2, JEVONS_PROGRAM " " + train)));
  check(stopped, 75, "stopped by a signal");
  CHECK(!fs::is_empty(w.run() + "/checkpoints"));
  check(jevons("checkpoint verify " + w.run()), 0, "");
}

}  // namespace jevons
