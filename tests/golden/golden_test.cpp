// Recorded numbers: nothing that is not meant to may move a bit of a loss or of a gradient.
#include <algorithm>
#include <cmath>

#include "kernels/gemm.h"
#include "tests/golden/tiny_runs.h"
#include "tests/support/catch.h"
#include "tests/support/ranks.h"
#include "tests/support/skip.h"

namespace jevons {
namespace {

struct Recording {
  const char* family;
  Precision precision;

  std::string name() const {
    return fmt::format("{}_{}", family, precision == Precision::kBF16 ? "bf16" : "f32");
  }
  std::string path() const { return JEVONS_SOURCE_DIR "/tests/golden/" + name(); }
  std::vector<std::string> options() const {
    return {precision == Precision::kBF16 ? "train.precision=bf16" : "train.precision=f32"};
  }
};

std::vector<test::TinyRun> runs_here(const Recording& recording) {
  std::vector<test::TinyRun> runs = test::tiny_runs(recording.family);
  const bool invariant = gemm_backend(DType::kF32).row_invariant &&
                         (recording.precision == Precision::kF32 || gemm_backend(DType::kBF16).row_invariant);
  if (!invariant)
    std::erase_if(runs, [](const test::TinyRun& run) { return run.model == "layout-invariant"; });
  return runs;
}

// The section of this engine, or null.
const test::Section* find(const std::vector<test::Section>& sections, const std::string& engine,
                          const std::string& model) {
  const auto found = std::ranges::find_if(
      sections, [&](const test::Section& s) { return s.engine == engine && s.model == model; });
  return found == sections.end() ? nullptr : &*found;
}

// Whether some engine's numbers of the model are there.
bool knows(const std::vector<test::Section>& sections, const std::string& model) {
  return std::ranges::any_of(sections, [&](const test::Section& s) { return s.model == model; });
}

const test::Numbers* find(const test::Section* section, const std::string& layout) {
  if (section == nullptr) return nullptr;
  for (const auto& [name, numbers] : section->layouts) {
    if (name == layout) return &numbers;
  }
  return nullptr;
}

bool is_recorded(const Recording& recording, const std::vector<test::Section>& sections,
                 const std::string& engine) {
  if (std::ranges::any_of(sections, [&](const test::Section& s) { return s.engine == engine; })) return true;
  test::skip_case(fmt::format(
      "{} has no numbers for \"{}\": build the commit before your change, run scripts/record_golden "
      "there, and compare your change with what it wrote",
      recording.name(), engine));
  return false;
}

// What is recorded and not run any more.
std::string not_run(const std::vector<test::TinyRun>& runs, const std::vector<test::Section>& sections,
                    const std::string& engine) {
  std::string report;
  for (const test::Section& section : sections) {
    if (section.engine != engine) continue;
    const auto run = std::ranges::find(runs, section.model, &test::TinyRun::model);
    for (const auto& entry : section.layouts) {
      const bool has = run != runs.end() && std::ranges::any_of(run->layouts, [&](const Layout& layout) {
                         return test::short_name(layout) == entry.first;
                       });
      if (!has)
        report += fmt::format("\nmodel {}, layout {}: recorded, but not run", section.model, entry.first);
    }
  }
  return report;
}

// What differs from the recorded numbers on layouts of at most `most_ranks` ranks, with further options.
std::string compare(const Recording& recording, int most_ranks, const std::vector<std::string>& more) {
  const std::string engine = test::engine_key(recording.precision);
  const std::vector<test::Section> sections = test::read_sections(recording.path());
  if (!is_recorded(recording, sections, engine)) return "";
  std::vector<std::string> options = recording.options();
  options.insert(options.end(), more.begin(), more.end());
  const std::vector<test::TinyRun> runs = runs_here(recording);
  std::string report = not_run(runs, sections, engine);
  for (const test::TinyRun& run : runs) {
    const test::Section* const section = find(sections, engine, run.model);
    if (section == nullptr && knows(sections, run.model)) {
      test::skip_case(fmt::format("{} has no numbers of model {} for \"{}\": run scripts/record_golden there",
                                  recording.name(), run.model, engine));
      continue;
    }
    for (const Layout& layout : run.layouts) {
      if (layout.world() > most_ranks) continue;
      const std::string place =
          fmt::format("\n{}, model {}, layout {}: ", recording.name(), run.model, test::short_name(layout));
      const test::Numbers* const recorded = find(section, test::short_name(layout));
      if (recorded == nullptr) {
        report += place + "not recorded";
        continue;
      }
      for (const std::string& line : test::differences(*recorded, test::numbers_of(run, layout, options))) {
        report += place + line;
      }
    }
  }
  return report;
}

constexpr int kMostRanks = 4;

}  // namespace

TEST_CASE("recorded numbers: dense and MoE in f32 on every layout", "[ranks]") {
  const char* const family = GENERATE("dense", "moe");
  CHECK(compare({family, Precision::kF32}, kMostRanks, {}) == "");
}

// A ctest entry of its own; over MPI runs f32.
TEST_CASE("recorded numbers: dense and MoE in bf16 on every layout", "[.bf16][threads]") {
  const char* const family = GENERATE("dense", "moe");
  CHECK(compare({family, Precision::kBF16}, kMostRanks, {}) == "");
}

TEST_CASE("recorded numbers: whatever the number of threads") {
  const char* const family = GENERATE("dense", "moe");
  CHECK(compare({family, Precision::kF32}, 1, {"threads=2"}) == "");
}

TEST_CASE("recorded numbers: a change is told in words") {
  const test::TinyRun run = test::tiny_runs("dense").front();
  const test::Numbers now = test::numbers_of(run, {}, {});
  CHECK(test::differences(now, now).empty());
  CHECK(test::numbers_of(run, {}, {}) == now);

  // Decay acts on the weights of step 1, so it is seen in the loss of step 2 and in no gradient of step 1.
  const auto decayed = test::differences(now, test::numbers_of(run, {}, {"optimizer.weight_decay=0.2"}));
  REQUIRE(decayed.size() == 3);
  CHECK_THAT(decayed[0], Catch::Matchers::StartsWith("9 of 10 losses changed; that of step 2 is "));
  CHECK_THAT(decayed[1], Catch::Matchers::StartsWith("the validation loss is "));
  CHECK(decayed[2] == "weights, moments or selection biases after the last step changed");

  test::Numbers other = now;
  other.losses[3] = std::nextafter(other.losses[3], 1e9);
  other.gradients["layers.0.attn.q"] = "0000000000000000";
  other.gradients.erase("final_norm");
  const auto lines = test::differences(other, now);
  REQUIRE(lines.size() == 2);
  CHECK_THAT(lines[0], Catch::Matchers::StartsWith("1 of 10 losses changed; that of step 4 is "));
  CHECK_THAT(lines[0], Catch::Matchers::ContainsSubstring(": 1 ulps, "));
  CHECK(lines[1] ==
        fmt::format("1 of {} gradients of step 1 changed: layers.0.attn.q; gradients that are not "
                    "recorded: final_norm",
                    now.gradients.size()));
}

// Writes the numbers of this engine, from one process; those of other engines stay. Says what changes.
TEST_CASE("record", "[.record][threads]") {
  for (const Precision precision : {Precision::kF32, Precision::kBF16}) {
    for (const char* const family : {"dense", "moe"}) {
      const Recording recording{family, precision};
      const std::string engine = test::engine_key(precision);
      std::vector<test::Section> sections = test::read_sections(recording.path());
      const std::vector<test::Section> before = sections;
      std::erase_if(sections, [&](const test::Section& s) { return s.engine == engine; });
      fmt::print("{}: \"{}\"\n", recording.name(), engine);
      for (const test::TinyRun& run : runs_here(recording)) {
        test::Section section{engine, run.model, {}};
        for (const Layout& layout : run.layouts) {
          const std::string name = test::short_name(layout);
          section.layouts.emplace_back(name, test::numbers_of(run, layout, recording.options()));
          const test::Numbers* const old = find(find(before, engine, run.model), name);
          if (old == nullptr) fmt::print("  model {}, layout {}: new\n", run.model, name);
          if (old == nullptr) continue;
          for (const std::string& line : test::differences(*old, section.layouts.back().second))
            fmt::print("  model {}, layout {}: {}\n", run.model, name, line);
        }
        sections.push_back(std::move(section));
      }
      test::write_sections(recording.path(), sections);
    }
  }
}

}  // namespace jevons
