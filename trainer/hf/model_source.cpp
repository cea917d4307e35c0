#include "trainer/hf/model_source.h"

#include <filesystem>

#include "kernels/core/error.h"
#include "trainer/checkpoint/catalog.h"
#include "trainer/hf/carried.h"
#include "trainer/hf/hf_config.h"
#include "trainer/hf/hf_source.h"
#include "trainer/io/file.h"

namespace jevons {
namespace {

namespace fs = std::filesystem;

ModelSource open_folder(const std::string& path, SourceCheck check) {
  const std::string config_path = (fs::path(path) / kHfConfigFile).string();
  const HfConfig config = parse_hf_config(read_text_file(config_path), config_path);
  const RunConfig run = run_of(config, config_path);
  auto weights = std::make_unique<HfSource>(path, config);
  if (check == SourceCheck::kContents) weights->check_tied_head();
  ModelSource source{.path = path,
                     .state = {},
                     .weights = std::move(weights),
                     .carried = path,
                     .not_taken = config.not_taken};
  source.state.passport["config"] = run.to_yaml();
  source.state.passport["source"] = fmt::format("a Hugging Face folder, {}", model_type_of(config.family));
  return source;
}

}  // namespace

const std::string& ModelSource::config() const {
  const auto found = state.passport.find("config");
  if (found == state.passport.end())
    fail(ExitCode::kData, "{}: the checkpoint's passport has no config", path);
  return found->second;
}

bool is_hf_folder(const std::string& path) {
  std::error_code ignored;
  return fs::is_regular_file(fs::path(path) / kHfConfigFile, ignored) && !is_committed(path);
}

ModelSource open_model(const std::string& path, SourceCheck check) {
  if (is_hf_folder(path)) return open_folder(path, check);
  const std::string found = find_checkpoint(path);
  auto reader = std::make_unique<CheckpointReader>(found);
  ModelSource source{.path = found,
                     .state = reader->state(),
                     .weights = nullptr,
                     .carried = carried_with(found),
                     .not_taken = {}};
  source.weights = std::move(reader);
  return source;
}

}  // namespace jevons
