// A whole run, resolved: what the YAML, its defaults and the command line's overrides say.
// The schema (configs/schema) is the single list of options, units, ranges and help texts; the defaults of
// the sections' structs are held against it by a test.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/data_config.h"
#include "trainer/config/checkpoint_section.h"
#include "trainer/config/cost_section.h"
#include "trainer/config/findings.h"
#include "trainer/config/parallel_section.h"
#include "trainer/config/train_section.h"
#include "trainer/config/watchdog_section.h"
#include "trainer/cost/budget_config.h"
#include "trainer/model/model_config.h"
#include "trainer/optim/optim_config.h"

namespace jevons {

enum class Numerics : std::uint8_t { kStandard, kLayoutInvariant };
enum class DeviceChoice : std::uint8_t { kAuto, kCpu, kCuda };

enum class Comments { kNone, kHelp };  // kHelp: help, unit, range and default above every option

struct RunConfig {
  std::string run_dir;  // runs/<name>
  std::string name;
  DeviceChoice device = DeviceChoice::kAuto;
  int threads = 0;  // CPU threads per worker; 0 = cores / local workers
  ModelConfig model;
  ParallelConfig parallel;
  DataConfig data;
  OptimConfig optim;
  TrainConfig train;
  CheckpointConfig checkpoint;
  CostConfig cost;
  BudgetConfig budget;
  Numerics numerics = Numerics::kStandard;
  WatchdogConfig watchdog;
  bool operator==(const RunConfig&) const = default;

  // As it is, resolved or not, as YAML that load_run_config reads back to the same values (but for
  // cost.price_source, which is no option: a price that a list gave comes back as the configuration's own).
  std::string to_yaml(Comments comments = Comments::kNone) const;
};

// Sequences of one forward and backward pass.
inline std::int64_t sequences_per_pass(const RunConfig& config) {
  return config.numerics == Numerics::kLayoutInvariant ? 1 : config.train.micro_batch_size;
}

// Micro-batches of a step of `sequences` of the global batch, on each data-parallel worker.
inline std::int64_t micro_batches_of(const RunConfig& config, std::int64_t sequences) {
  return sequences / (sequences_per_pass(config) * config.parallel.layout.dp);
}

// A configuration as it was read: what it says as far as it can be read, and what is wrong with it, which
// nobody was told yet.
struct ReadConfig {
  RunConfig config;
  Findings findings{""};
};
// Reads `path` and what it includes, and applies overrides ("model.num_layers=2").
ReadConfig read_run_config(const std::string& path, const std::vector<std::string>& overrides);

// What a configuration is to be used for. What is not known is not judged.
struct RunSetting {
  enum class Use : std::uint8_t { kAny, kTraining };
  std::optional<int> world;  // workers
  Use use = Use::kAny;       // training takes data and an end
};
// The one place that judges a configuration: adds to `findings`, which are of its reading, every rule that it
// breaks. Fills in parallel.dp if the workers are known. What a GPU cannot do is judged if `device` is cuda.
void check_run(RunConfig& config, const RunSetting& setting, Findings& findings);

// read_run_config, check_run. Throws Error(kUsage), one mistake a line: "file:line:col: message".
RunConfig load_run_config(const std::string& path, const std::vector<std::string>& overrides,
                          const RunSetting& setting = {});
// The same from text; `source` names it in messages and gives the directory of its include.
RunConfig parse_run_config(std::string_view text, const std::string& source,
                           const std::vector<std::string>& overrides, const RunSetting& setting = {});

enum class SchemaFormat { kText, kMarkdown };
// Every option: key, type, default, unit, range, help.
std::string describe_schema(SchemaFormat format = SchemaFormat::kText);

}  // namespace jevons
