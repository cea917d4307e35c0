// Every YAML under configs/ is good, and the presets have the published numbers of parameters.
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "tests/support/catch.h"
#include "trainer/config/run_config.h"
#include "trainer/model/model_counts.h"

namespace jevons {
namespace {

const std::string kConfigs = JEVONS_SOURCE_DIR "/configs/";

}  // namespace

TEST_CASE("config: every run under configs/ loads and reads back", "[config]") {
  std::vector<std::string> paths;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(kConfigs)) {
    const bool is_run = entry.path().extension() == ".yaml" && entry.path().filename() != "prices.yaml";
    if (is_run) paths.push_back(entry.path().string());
  }
  CHECK(paths.size() >= 8);
  for (const std::string& path : paths) {
    INFO(path);
    const RunConfig config = load_run_config(path, {});
    CHECK(parse_run_config(config.to_yaml(), "copy.yaml", {}) == config);
    // What names no data is a preset: a model to include or to plan with.
    const auto use = config.data.train.empty() ? RunSetting::Use::kAny : RunSetting::Use::kTraining;
    CHECK_NOTHROW(load_run_config(path, {}, {.world = 2, .use = use}));
  }
}

TEST_CASE("config: presets have the published numbers of parameters", "[config]") {
  const auto total = [](const std::string& name) {
    return count_model(load_run_config(kConfigs + "presets/" + name + ".yaml", {}).model).total;
  };
  CHECK(total("llama3-8b") == 8'030'261'248);
  CHECK(total("llama3-70b") == 70'553'706'496);
  CHECK(total("llama3-405b") == 405'853'388'800);
  CHECK(total("mixtral-8x7b") == 46'702'792'704);
  CHECK(total("olmoe-1b-7b") == 6'919'161'856);
  CHECK(total("qwen3-30b-a3b") == 30'532'122'624);
  CHECK(total("qwen3-235b-a22b") == 235'093'634'560);
  CHECK(total("deepseek-v3") == 671'026'419'200);
  CHECK(total("deepseek-v2") == 235'741'434'880);
  CHECK(total("deepseek-v2-lite") == 15'706'484'224);
  CHECK(total("kimi-k2") == 1'026'408'232'448);
  CHECK(total("moonlight-16b-a3b") == 15'960'110'208);
}

TEST_CASE("config: docs/options.md is the schema's own table", "[config]") {
  std::ifstream file(JEVONS_SOURCE_DIR "/docs/options.md");
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  INFO("regenerate: see the first lines of docs/options.md");
  CHECK_THAT(text, Catch::Matchers::EndsWith(describe_schema(SchemaFormat::kMarkdown)));
}

}  // namespace jevons
