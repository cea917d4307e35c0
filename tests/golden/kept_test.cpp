// Checkpoints that earlier versions wrote (tests/golden/kept) load for ever, with the values that they had,
// and their runs go on as they did: docs/testing.md.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <xxhash.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>

#include "kernels/core/memory.h"
#include "tests/data/temp_files.h"
#include "tests/golden/tiny_runs.h"
#include "tests/support/catch.h"
#include "tests/trainer/training_run.h"
#include "trainer/checkpoint/checkpoint.h"

namespace jevons {
namespace {

const std::string kKept = JEVONS_SOURCE_DIR "/tests/golden/kept/";

using Texts = std::map<std::string, std::string>;

// The file `recorded` beside a checkpoint.
struct Recorded {
  std::string engine;
  Texts state, tensors;                   // by name; hashes
  std::map<std::int64_t, double> losses;  // of the steps after it, on the layout that wrote it
};

Recorded recorded_of(const std::string& kept) {
  Recorded recorded;
  std::ifstream file(kKept + kept + "/recorded");
  REQUIRE(file.good());
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string kind, name, value;
    words >> kind >> name;
    std::getline(words >> std::ws, value);
    if (kind == "engine") {
      recorded.engine = line.substr(kind.size() + 1);
      // The first ones do not say for which CPU the program was compiled.
      if (recorded.engine.find(" for ") == std::string::npos) recorded.engine += " for sapphirerapids";
    }
    if (kind == "state") recorded.state[name] = value;
    if (kind == "tensor") recorded.tensors[name] = value;
    if (kind == "loss") recorded.losses[std::stoll(name)] = std::strtod(value.c_str(), nullptr);
  }
  return recorded;
}

Texts state_of(const TrainState& state) {
  std::vector<std::string> branches, losses, notes;
  for (const Branch& branch : state.lineage.branches())
    branches.push_back(fmt::format("{} after {}", branch.id, branch.after));
  for (const double loss : state.recent_losses) losses.push_back(fmt::format("{:a}", loss));
  for (const auto& [key, value] : state.passport) notes.push_back(key);
  return {{"step", fmt::to_string(state.step)},
          {"samples", fmt::to_string(state.consumed_samples)},
          {"tokens", fmt::to_string(state.consumed_tokens)},
          {"optimizer_step", fmt::to_string(state.optimizer_step)},
          {"sequence", fmt::to_string(state.sequence)},
          {"branches", fmt::format("{}", fmt::join(branches, ", "))},
          {"recent_losses", fmt::format("{}", fmt::join(losses, " "))},
          {"passport", fmt::format("{}", fmt::join(notes, " "))}};
}

Texts tensors_of(const CheckpointReader& reader) {
  Texts hashes;
  for (const TensorEntry& entry : reader.tensors()) {
    const Buffer memory(Device::kCpu, static_cast<std::size_t>(entry.shape.numel()) * size_of(entry.dtype));
    const Tensor whole = memory.view(0, entry.shape, entry.dtype);
    const std::vector<std::int64_t> begin(static_cast<std::size_t>(entry.shape.ndim()), 0);
    reader.read({{entry.name, entry.shape, begin, whole}});
    hashes[entry.name] = fmt::format("{:016x}", XXH3_64bits(whole.data, whole.bytes()));
  }
  return hashes;
}

// The run of a kept checkpoint in a directory of its own, where it can go on.
class KeptRun {
 public:
  explicit KeptRun(const std::string& kept) : yaml_(read_bytes(kKept + kept + "/run.yaml")) {
    test::once([&] {
      std::filesystem::create_directory(dir_ / "kept");
      std::filesystem::copy(kKept + kept + "/checkpoints", dir_ / "kept/checkpoints",
                            std::filesystem::copy_options::recursive);
    });
    put("run_dir: kept", "run_dir: " + dir_ / "kept");
    put("path: corpus", "path: " + kKept + "corpus");
  }
  std::map<std::int64_t, double> go_on(int workers, std::vector<std::string> options) {
    options.insert(options.end(), {"checkpoint.interval=0", "checkpoint.final_save=false"});
    CHECK(test::train(workers, yaml_, options) == ExitCode::kOk);
    return test::losses_of(dir_ / "kept");
  }

 private:
  void put(const std::string& what, const std::string& by) {
    const std::size_t at = yaml_.find(what);
    REQUIRE(at != std::string::npos);
    yaml_.replace(at, what.size(), by);
  }
  std::string yaml_;
  TempDir dir_;
};

}  // namespace

TEST_CASE("kept checkpoints: every tensor has the values that it had", "[kept]") {
  const std::string kept = GENERATE("0.1.0", "went-back");
  INFO(kept);
  const std::string path = find_checkpoint(kKept + kept);
  CHECK(path == kKept + kept + "/checkpoints/step-00000004");
  const CheckpointReader reader(path);
  CHECK_NOTHROW(reader.verify());
  const Recorded recorded = recorded_of(kept);
  for (const auto& [name, value] : state_of(reader.state())) {
    INFO(name);
    CHECK(value == recorded.state.at(name));
  }
  CHECK(recorded.tensors.size() == 112);
  CHECK(tensors_of(reader) == recorded.tensors);
}

TEST_CASE("kept checkpoints: their runs go on as they did", "[kept][ranks]") {
  struct Layout {
    int workers;
    std::vector<std::string> options;
  };
  const std::string kept = GENERATE("0.1.0", "went-back");
  const auto layout = GENERATE(Layout{2, {}}, Layout{1, {"parallel.tp=1", "parallel.ep=1"}},
                               Layout{4, {"parallel.tp=2", "parallel.ep=4"}});
  INFO(kept << " on " << layout.workers);
  const Recorded recorded = recorded_of(kept);
  REQUIRE(recorded.losses.size() == 4);
  const std::map<std::int64_t, double> losses = KeptRun(kept).go_on(layout.workers, layout.options);
  if (layout.options.empty() && recorded.engine == test::engine_key(Precision::kF32)) {
    CHECK(losses == recorded.losses);
  }
  // On another engine or layout to rounding, which four steps of AdamW amplify.
  REQUIRE(losses.size() == 4);
  for (const auto& [step, loss] : losses) {
    INFO("step " << step);
    CHECK(loss == Approx(recorded.losses.at(step)).epsilon(1e-5));
  }
}

}  // namespace jevons
