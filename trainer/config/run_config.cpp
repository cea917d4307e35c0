#include "trainer/config/run_config.h"

#include <fmt/format.h>

#include <algorithm>

#include "kernels/core/error.h"
#include "run.pb.h"
#include "trainer/config/config_file.h"
#include "trainer/config/option.h"
#include "trainer/config/schema_bridge.h"
#include "trainer/config/yaml_writer.h"

namespace jevons {
namespace {

// The largest multiple of `unit` below `value` and the smallest above, for advice.
std::string multiples_around(std::int64_t value, std::int64_t unit) {
  const std::int64_t below = value / unit * unit;
  return below == 0 ? fmt::format("{}", unit) : fmt::format("{} or {}", below, below + unit);
}

void check_split(const char* key, std::int64_t value, const RunConfig& config) {
  const std::int64_t unit = config.train.micro_batch_size * config.parallel.layout.dp;
  if (value % unit == 0) return;
  fail(ExitCode::kUsage,
       "{} = {} is not divisible by train.micro_batch_size * parallel.dp = {} * {}; {} would fit", key, value,
       config.train.micro_batch_size, config.parallel.layout.dp, multiples_around(value, unit));
}

// dp = what the other axes leave of the workers.
int left_for_dp(const Layout& layout, int world_size) {
  const std::int64_t others = std::int64_t{layout.tp} * layout.pp * layout.cp;
  if (world_size % others != 0) {
    fail(ExitCode::kUsage, "parallel: tp*pp*cp = {} does not divide the {} worker{}", others, world_size,
         world_size == 1 ? "" : "s");
  }
  return static_cast<int>(world_size / others);
}

}  // namespace

RunConfig load_run_config(const std::string& path, const std::vector<std::string>& overrides) {
  return to_struct(read_run_file(path, overrides));
}

RunConfig parse_run_config(std::string_view text, const std::string& source,
                           const std::vector<std::string>& overrides) {
  return to_struct(read_run_text(text, source, overrides));
}

void validate_for_world(RunConfig& config, int world_size) {
  Layout& layout = config.parallel.layout;
  if (layout.dp == 0) layout.dp = left_for_dp(layout, world_size);
  validate_layout(layout, world_size, layout_limits(config.model));
  if (config.model.qk_norm == QkNorm::kHidden && layout.tp > 1) {
    fail(ExitCode::kUsage, "parallel.tp: {} cannot be used with model.qk_norm = hidden; tp 1 would fit",
         layout.tp);
  }
  check_split("train.global_batch_size", config.train.global_batch_size, config);
  check_split("train.batch_ramp_start", config.train.batch_ramp_start, config);
}

void validate_for_training(const RunConfig& config) {
  if (config.data.train.empty()) {
    fail(ExitCode::kUsage, "data.train is empty: give at least one source, data.train: [{{path: ...}}]");
  }
  if (config.train.steps == 0 && config.train.tokens == 0) {
    fail(ExitCode::kUsage,
         "train.steps and train.tokens are both 0: give one of them, or the run has no end");
  }
}

void validate_for_gpu(const RunConfig& config) {
  if (config.train.precision != Precision::kBF16) {
    fail(ExitCode::kUsage,
         "train.precision: attention on a GPU is bf16 only; use train.precision = bf16, or "
         "device = cpu");
  }
  constexpr std::int64_t kMultiple = 8, kMost = 256;
  if (config.model.head_dim % kMultiple != 0 || config.model.head_dim > kMost) {
    fail(ExitCode::kUsage,
         "model.head_dim: attention on a GPU needs a multiple of {} up to {}, not {}; device = "
         "cpu takes it",
         kMultiple, kMost, config.model.head_dim);
  }
}

std::string RunConfig::to_yaml(Comments comments) const {
  return write_yaml(to_message(*this), comments);
}

std::string describe_schema(SchemaFormat format) {
  return describe_options(*schema::Run::descriptor(), format);
}

}  // namespace jevons
