#include "trainer/config/run_config.h"

#include <filesystem>
#include <utility>

#include "run.pb.h"
#include "trainer/config/budget_section.h"
#include "trainer/config/config_file.h"
#include "trainer/config/data_section.h"
#include "trainer/config/model_section.h"
#include "trainer/config/optim_section.h"
#include "trainer/config/option.h"
#include "trainer/config/yaml_writer.h"

namespace jevons {
namespace {

constexpr Choice<DeviceChoice> kDevices[] = {
    {DeviceChoice::kAuto, "auto"}, {DeviceChoice::kCpu, "cpu"}, {DeviceChoice::kCuda, "cuda"}};
constexpr Choice<Numerics> kNumerics[] = {{Numerics::kStandard, "standard"},
                                          {Numerics::kLayoutInvariant, "layout_invariant"}};

void carry(Bridge b, RunConfig& config) {
  b("run_dir", config.run_dir);
  b("name", config.name);
  b("device", config.device, kDevices);
  b("threads", config.threads);
  b("numerics", config.numerics, kNumerics);
  carry(b.section("model"), config.model);
  carry(b.section("parallel"), config.parallel);
  carry(b.section("data"), config.data);
  carry(b.section("optimizer"), b.section("schedule"), config.optim);
  carry(b.section("train"), config.train);
  carry(b.section("checkpoint"), config.checkpoint);
  carry(b.section("cost"), config.cost);
  carry(b.section("budget"), config.budget);
  carry(b.section("watchdog"), config.watchdog);
}

// `source`: the file's name.
void resolve_defaults(RunConfig& config, const std::string& source) {
  resolve_defaults(config.model);
  config.data.seq_len = config.model.seq_len;
  if (config.name.empty()) config.name = std::filesystem::path(source).stem().string();
  if (config.run_dir.empty()) config.run_dir = "runs/" + config.name;
}

ReadConfig to_struct(RunMessage read, const std::string& source) {
  RunConfig config;
  carry(Bridge(read.run, read.findings), config);
  resolve_defaults(config, source);
  return {std::move(config), std::move(read.findings)};
}

RunConfig checked(ReadConfig read, const RunSetting& setting) {
  check_run(read.config, setting, read.findings);
  read.findings.throw_if_any();
  return read.config;
}

}  // namespace

ReadConfig read_run_config(const std::string& path, const std::vector<std::string>& overrides) {
  return to_struct(read_run_file(path, overrides), path);
}

RunConfig load_run_config(const std::string& path, const std::vector<std::string>& overrides,
                          const RunSetting& setting) {
  return checked(read_run_config(path, overrides), setting);
}

RunConfig parse_run_config(std::string_view text, const std::string& source,
                           const std::vector<std::string>& overrides, const RunSetting& setting) {
  return checked(to_struct(read_run_text(text, source, overrides), source), setting);
}

std::string RunConfig::to_yaml(Comments comments) const {
  schema::Run run;
  RunConfig source = *this;
  carry(Bridge(run), source);
  return write_yaml(run, comments);
}

std::string describe_schema(SchemaFormat format) {
  return describe_options(*schema::Run::descriptor(), format);
}

}  // namespace jevons
