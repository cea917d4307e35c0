#include "trainer/config/run_config.h"

#include <fmt/format.h>

#include <algorithm>

#include "kernels/core/error.h"
#include "run.pb.h"
#include "trainer/config/config_file.h"
#include "trainer/config/dates.h"
#include "trainer/config/option.h"
#include "trainer/config/validate.h"
#include "trainer/config/yaml_writer.h"

namespace jevons {
namespace {

RouterRule to_struct(const schema::Moe& moe) {
  const schema::Router& router = moe.router();
  RouterRule rule;
  rule.num_experts = moe.num_experts();
  rule.top_k = moe.top_k();
  rule.score = static_cast<ScoreFunction>(router.score());
  rule.top_k_before_score = router.top_k_before_score();
  rule.renormalize = router.renormalize();
  rule.scaling_factor = router.scaling_factor();
  rule.groups = router.groups();
  rule.groups_kept = router.groups_kept();
  rule.group_score = static_cast<GroupScore>(router.group_score());
  return rule;
}

MoeConfig moe_config(const schema::Moe& moe) {
  MoeConfig config;
  config.router = to_struct(moe);
  config.expert_hidden_size = moe.expert_hidden_size();
  config.num_shared_experts = moe.num_shared_experts();
  config.first_dense_layers = moe.first_dense_layers();
  config.capacity_factor = moe.capacity_factor();
  config.reduce_at_expert = moe.reduce_at_expert();
  config.dispatch_chunks = moe.dispatch_chunks();
  config.use_selection_bias = moe.router().selection_bias();
  config.bias_update_rate = moe.router().bias_update_rate();
  config.balance_loss = moe.balance_loss();
  config.sequence_balance_loss = moe.sequence_balance_loss();
  config.global_balance_loss = moe.global_balance_loss();
  config.z_loss = moe.z_loss();
  return config;
}

ModelConfig to_struct(const schema::Model& model) {
  ModelConfig config;
  config.vocab_size = model.vocab_size();
  config.num_layers = model.num_layers();
  config.hidden_size = model.hidden_size();
  config.ffn_hidden_size = model.ffn_hidden_size();
  config.num_heads = model.num_heads();
  config.num_kv_heads = model.num_kv_heads();
  config.head_dim = model.head_dim();
  config.seq_len = model.seq_len();
  config.rope_theta = model.rope_theta();
  config.norm_eps = model.norm_eps();
  config.qk_norm = static_cast<QkNorm>(model.qk_norm());
  config.tie_embeddings = model.tie_embeddings();
  config.init_std = model.init_std();
  config.recompute = static_cast<Recompute>(model.recompute());
  config.moe = moe_config(model.moe());
  return config;
}

ParallelConfig to_struct(const schema::Parallel& parallel) {
  return {{parallel.dp(), parallel.tp(), parallel.ep(), parallel.pp(), parallel.cp()},
          parallel.zero_stage(),
          parallel.bucket_mib()};
}

DataConfig to_struct(const schema::Data& data, std::int64_t seq_len) {
  DataConfig config;
  for (const schema::DataSource& source : data.train())
    config.train.push_back({source.path(), source.weight()});
  for (const schema::DataSource& source : data.validation()) {
    config.validation.push_back({source.path(), source.weight()});
  }
  config.validation_fraction = data.validation_fraction();
  config.seq_len = seq_len;
  config.seed = data.seed();
  config.document_mask = data.document_mask();
  config.allow_change = data.allow_change();
  return config;
}

OptimConfig to_struct(const schema::Optimizer& optimizer, const schema::Schedule& schedule) {
  OptimConfig config;
  config.kind = static_cast<OptimizerKind>(optimizer.kind());
  config.lr = optimizer.lr();
  config.beta1 = optimizer.beta1();
  config.beta2 = optimizer.beta2();
  config.eps = optimizer.eps();
  config.weight_decay = optimizer.weight_decay();
  config.clip_norm = optimizer.clip_norm();
  config.schedule = static_cast<ScheduleKind>(schedule.kind());
  config.warmup_steps = schedule.warmup_steps();
  config.decay_steps = schedule.decay_steps();
  config.min_lr_ratio = schedule.min_lr_ratio();
  return config;
}

TrainConfig to_struct(const schema::Train& train) {
  TrainConfig config;
  config.steps = train.steps();
  config.tokens = train.tokens();
  config.global_batch_size = train.global_batch_size();
  config.micro_batch_size = train.micro_batch_size();
  config.batch_ramp_start = train.batch_ramp_start();
  config.batch_ramp_samples = train.batch_ramp_samples();
  config.seed = train.seed();
  config.precision = static_cast<Precision>(train.precision());
  config.eval_interval = train.eval_interval();
  config.eval_samples = train.eval_samples();
  config.log_interval = train.log_interval();
  config.max_bad_steps = train.max_bad_steps();
  config.on_bad_step = static_cast<BadStepPolicy>(train.on_bad_step());
  config.spike_zscore = train.spike_zscore();
  config.spike_window = train.spike_window();
  config.replica_check_interval = train.replica_check_interval();
  return config;
}

CheckpointConfig to_struct(const schema::Checkpoint& checkpoint) {
  CheckpointConfig config;
  config.interval = checkpoint.interval();
  config.keep_last = checkpoint.keep_last();
  config.keep_every = checkpoint.keep_every();
  config.keep_best = checkpoint.keep_best();
  config.on_error = static_cast<SaveErrorPolicy>(checkpoint.on_error());
  config.asynchronous = checkpoint.asynchronous();
  config.auto_min_minutes = checkpoint.auto_min_minutes();
  config.auto_max_minutes = checkpoint.auto_max_minutes();
  config.final_save = checkpoint.final_save();
  return config;
}

CostConfig to_struct(const schema::Cost& cost) {
  CostConfig config;
  config.project = cost.project();
  config.purpose = choice_name(*schema::Purpose_descriptor()->FindValueByNumber(cost.purpose()));
  config.device_type = cost.device_type();
  config.price_per_device_hour = cost.price_per_device_hour();
  config.currency = cost.currency();
  config.peak_tflops = cost.peak_tflops();
  config.heartbeat_seconds = cost.heartbeat_seconds();
  config.prices = cost.prices();
  return config;
}

BudgetConfig to_struct(const schema::Budget& budget) {
  BudgetConfig config;
  config.device_hours = budget.device_hours();
  config.money = budget.money();
  config.energy_kwh = budget.energy_kwh();
  config.end_time = parse_moment(budget.date()).value_or(0);
  config.warn_at = parse_shares(budget.warn_at()).value_or(std::vector<double>{});
  config.scope = static_cast<BudgetScope>(budget.scope());
  return config;
}

WatchdogConfig to_struct(const schema::Watchdog& watchdog) {
  return {.stall_seconds = watchdog.stall_seconds(),
          .long_stall_seconds = watchdog.long_stall_seconds(),
          .connect_seconds = watchdog.connect_seconds(),
          .step_seconds = watchdog.step_seconds()};
}

RunConfig to_struct(const schema::Run& run) {
  RunConfig config;
  config.run_dir = run.run_dir();
  config.name = run.name();
  config.device = static_cast<DeviceChoice>(run.device());
  config.threads = run.threads();
  config.model = to_struct(run.model());
  config.parallel = to_struct(run.parallel());
  config.data = to_struct(run.data(), run.model().seq_len());
  config.optim = to_struct(run.optimizer(), run.schedule());
  config.train = to_struct(run.train());
  config.checkpoint = to_struct(run.checkpoint());
  config.cost = to_struct(run.cost());
  config.budget = to_struct(run.budget());
  config.numerics = static_cast<Numerics>(run.numerics());
  config.watchdog = to_struct(run.watchdog());
  return config;
}

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

std::string dump_run_config(const std::string& path, const std::vector<std::string>& overrides,
                            Comments comments) {
  return write_yaml(read_run_file(path, overrides), comments);
}

std::string describe_schema(SchemaFormat format) {
  return describe_options(*schema::Run::descriptor(), format);
}

}  // namespace jevons
