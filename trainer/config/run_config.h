// A whole run, resolved: what the YAML, its defaults and the command line's overrides say.
// The schema (configs/schema) is the single list of options, units, ranges and help texts; the defaults below
// are held against it by a test.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "data/data_config.h"
#include "kernels/core/tensor.h"
#include "parallel/mesh.h"
#include "trainer/cost/budget_config.h"
#include "trainer/model/model_config.h"
#include "trainer/optim/optim_config.h"

namespace jevons {

enum class Precision : std::uint8_t { kF32, kBF16 };
enum class Numerics : std::uint8_t { kStandard, kLayoutInvariant };
enum class DeviceChoice : std::uint8_t { kAuto, kCpu, kCuda };

struct ParallelConfig {
  Layout layout;       // dp = 0 until validate_for_world: what is left of the workers
  int zero_stage = 1;  // 0: optimizer state on every rank; 1: sharded over the ranks that sum a gradient
  std::int64_t bucket_mib = 64;  // ParamStore's buckets
  bool operator==(const ParallelConfig&) const = default;
};

enum class BadStepPolicy : std::uint8_t { kSkip, kStop };

struct TrainConfig {
  std::int64_t steps = 0;               // stop after this many steps ...
  std::int64_t tokens = 0;              // ... or this many trained tokens, whichever is first; 0 = no limit
  std::int64_t global_batch_size = 0;   // sequences per step
  std::int64_t micro_batch_size = 1;    // sequences per dp rank and forward pass
  std::int64_t batch_ramp_start = 0;    // sequences at step 0; 0 = no ramp
  std::int64_t batch_ramp_samples = 0;  // sequences over which the batch grows linearly to global_batch_size
  std::uint64_t seed = 1;
  Precision precision = Precision::kF32;
  std::int64_t eval_interval = 0;  // steps; 0 = only at the end
  std::int64_t eval_samples = 0;   // sequences of the fixed validation set; 0 = all
  std::int64_t log_interval = 1;   // steps
  std::int64_t max_bad_steps = 3;  // consecutive skipped steps before the run stops with code 70
  BadStepPolicy on_bad_step = BadStepPolicy::kSkip;
  double spike_zscore = 0;                  // skip losses so far above the window's mean; 0 = none
  std::int64_t spike_window = 100;          // steps
  std::int64_t replica_check_interval = 0;  // steps; 0 = never
  bool operator==(const TrainConfig&) const = default;
};

enum class SaveErrorPolicy : std::uint8_t { kStop, kContinue };

struct CheckpointConfig {
  static constexpr std::int64_t kAuto = -1;
  std::int64_t interval = 0;    // steps; 0 = only at the end; kAuto = as SaveSchedule finds best
  std::int64_t keep_last = 0;   // newest so many stay; 0 = all
  std::int64_t keep_every = 0;  // steps that are multiples of this stay; 0 = none
  std::int64_t keep_best = 0;   // so many with the lowest validation loss stay
  SaveErrorPolicy on_error = SaveErrorPolicy::kStop;
  double auto_min_minutes = 1, auto_max_minutes = 60;  // between two saves, of kAuto
  bool asynchronous = true;  // at an interval: a copy in host memory is written beside training
  bool final_save = true;
  bool operator==(const CheckpointConfig&) const = default;
};

struct CostConfig {
  std::string project = "default";
  std::string purpose = "exploration";  // a name of the schema's Purpose
  std::string device_type;              // "" = detected: "cpu" or the GPU's name
  double price_per_device_hour = -1;    // < 0 = unknown: hours without money
  std::string currency = "USD";
  double peak_tflops = 0;  // dense peak of one device for MFU; 0 = unknown
  double heartbeat_seconds = 10;
  std::string prices;        // path of a price list; "" = none
  std::string price_source;  // for the ledger; set by resolve_price, no option
  bool operator==(const CostConfig&) const = default;
};

// 0 = no limit.
struct WatchdogConfig {
  double stall_seconds = 600;        // without any progress of a worker
  double long_stall_seconds = 3600;  // the same while the run starts, saves and ends, and in its first step
  double connect_seconds = 180;      // while devices are connected over the network
  double step_seconds = 0;           // of a step but the first
  bool operator==(const WatchdogConfig&) const = default;
};

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

// Reads `path` and what it includes, applies overrides ("model.num_layers=2") and checks everything that does
// not depend on the number of workers. Throws Error(kUsage), one mistake a line: "file:line:col: message".
RunConfig load_run_config(const std::string& path, const std::vector<std::string>& overrides);
// The same from text; `source` names it in messages and gives the directory of its include.
RunConfig parse_run_config(std::string_view text, const std::string& source,
                           const std::vector<std::string>& overrides);

// Once the number of workers is known: resolves parallel.dp, validates the layout and that the global batch
// splits evenly over it. Throws Error(kUsage).
void validate_for_world(RunConfig& config, int world_size);
// What a run needs but a plan does not: sources to train on and an end. Throws Error(kUsage).
void validate_for_training(const RunConfig& config);

// What a GPU cannot do of what a CPU can. Throws Error(kUsage).
void validate_for_gpu(const RunConfig& config);

enum class SchemaFormat { kText, kMarkdown };
// Every option: key, type, default, unit, range, help.
std::string describe_schema(SchemaFormat format = SchemaFormat::kText);

}  // namespace jevons
