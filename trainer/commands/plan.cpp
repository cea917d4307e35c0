// jevons plan: what a run would need, from a dry run of the real program on the meta device.
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "kernels/core/device.h"
#include "kernels/core/error.h"
#include "parallel/pipeline/simulate.h"
#include "trainer/commands/arguments.h"
#include "trainer/commands/commands.h"
#include "trainer/config/step_plan.h"
#include "trainer/io/format.h"
#include "trainer/io/json.h"
#include "trainer/model/model_counts.h"
#include "trainer/step/dry_run.h"
#include "trainer/step/model_worker.h"

namespace jevons {
namespace {

struct PlanOptions {
  ConfigArguments config;
  int world_size = 1;  // workers of the planned run; one process plays them all on the meta device
  bool json = false;
};

// auto means what it would mean for a run here.
DeviceChoice resolved(DeviceChoice device) {
  if (device != DeviceChoice::kAuto) return device;
  return device::availability().devices > 0 ? DeviceChoice::kCuda : DeviceChoice::kCpu;
}

void print_memory(const MemoryReport& m, DeviceChoice device) {
  fmt::print("memory of the worker that needs most, at its peak, balanced routing, on a {}\n",
             device == DeviceChoice::kCuda ? "GPU" : "CPU (device=cuda: what a GPU's libraries take too)");
  fmt::print("  weights and gradients  {:>12}\n", format_bytes(m.weights_and_grads));
  fmt::print("  optimizer state        {:>12}\n", format_bytes(m.optimizer));
  fmt::print("  saved activations      {:>12}\n", format_bytes(m.stash));
  fmt::print("  temporaries            {:>12}\n", format_bytes(m.work));
  if (device == DeviceChoice::kCuda)
    fmt::print("  buffers of collectives {:>12}\n", format_bytes(m.communication));
  fmt::print("  total                  {:>12}\n", format_bytes(m.total()));
}

void print_work(const WorkMeter& work) {
  fmt::print("work of a worker in one step\n  {:<14} {:>12} {:>14} {:>9}\n", "kind", "TFLOP", "bytes",
             "calls");
  for (std::size_t k = 0; k < kNumWorkKinds; ++k) {
    const auto kind = static_cast<WorkKind>(k);
    fmt::print("  {:<14} {:>12.4f} {:>14} {:>9}\n", name_of(kind), work[kind].flops * 1e-12,
               format_bytes(work[kind].bytes), work[kind].calls);
  }
}

// Of a token that generation has written, or read.
std::optional<std::int64_t> cache_bytes(const RunConfig& config, const ModelCounts& counts) {
  if (!counts.cache_columns) return std::nullopt;
  return *counts.cache_columns * static_cast<std::int64_t>(size_of(compute_dtype(config.train.precision)));
}

// A rank of the pipeline, where it has several.
struct PipelineRankPlan {
  std::vector<std::int64_t> stages, layers;  // their numbers, and how many layers each has
  DryRun run;
};

std::vector<PipelineRankPlan> plan_pipeline(const RunConfig& config, int world_size) {
  std::vector<PipelineRankPlan> ranks;
  for (int rank = 0; rank < config.parallel.layout.pp; ++rank) {
    const PipelinePlan plan(config, rank);
    PipelineRankPlan& mine = ranks.emplace_back();
    mine.stages = plan.numbers();
    for (const StageRange& range : plan.ranges()) mine.layers.push_back(range.end_layer - range.first_layer);
    mine.run = dry_run(config, world_size, rank);
  }
  return ranks;
}

// Share of a step in which a rank waits for other stages, if time went by model FLOPs and messages took none:
// the schedule's makespan against the busiest rank's work. Nothing without a pipeline.
std::optional<double> bubble_share(const RunConfig& config) {
  if (config.parallel.layout.pp == 1) return std::nullopt;
  const PipelineSchedule schedule =
      step_schedule(config.parallel, micro_batches_of(config, config.train.global_batch_size));
  PipelineTimes times;
  for (const StageRange& range : all_stages(config)) {
    const double third = stage_flops_per_token(config.model, range) / 3;
    times.stages.push_back({.forward = third, .backward_input = third, .backward_weight = third});
  }
  const PipelineFigures figures = simulate(schedule, times);
  double busy = 0;
  for (const RankFigures& rank : figures.ranks) busy += rank.busy;
  return 1 - busy / (figures.makespan * static_cast<double>(figures.ranks.size()));
}

void print_pipeline(const RunConfig& config, const std::vector<PipelineRankPlan>& ranks) {
  const ParallelConfig& parallel = config.parallel;
  fmt::print("pipeline: {}, {} micro-batches, {:.1f} % of the time in the bubble by FLOPs\n",
             name_of(parallel.pipeline.schedule), micro_batches_of(config, config.train.global_batch_size),
             100 * bubble_share(config).value_or(0));
  std::vector<std::vector<std::string>> rows = {{"  rank", "stages", "layers", "weights, gradients",
                                                 "optimizer", "activations", "temporaries", "total"}};
  const auto bytes = [](std::size_t n) { return format_bytes(static_cast<double>(n)); };
  for (std::size_t r = 0; r < ranks.size(); ++r) {
    const MemoryReport& m = ranks[r].run.memory;
    rows.push_back({fmt::format("  {}", r), fmt::format("{}", fmt::join(ranks[r].stages, " ")),
                    fmt::format("{}", fmt::join(ranks[r].layers, " ")), bytes(m.weights_and_grads),
                    bytes(m.optimizer), bytes(m.stash), bytes(m.work), bytes(m.total())});
  }
  fmt::print("{}", format_table(rows));
}

nlohmann::ordered_json as_json(const MemoryReport& m) {
  return {{"weights_and_gradients", m.weights_and_grads},
          {"optimizer", m.optimizer},
          {"saved_activations", m.stash},
          {"temporaries", m.work},
          {"collectives", m.communication},
          {"total", m.total()}};
}

nlohmann::ordered_json as_json(const std::vector<PipelineRankPlan>& ranks) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const PipelineRankPlan& rank : ranks) {
    list.push_back(
        {{"stages", rank.stages}, {"layers", rank.layers}, {"memory_bytes", as_json(rank.run.memory)}});
  }
  return list;
}

// One kind of call, with its sizes where they say its cost.
nlohmann::ordered_json as_json(const WorkRecord& record, std::int64_t calls) {
  nlohmann::ordered_json json = {{"kind", name_of(record.kind)}, {"op", record.op}, {"calls", calls}};
  if (!record.dtype.empty()) json["dtype"] = record.dtype;
  for (const auto& [name, value] : record.sizes) json[name] = value;
  if (!record.group.empty()) json["group"] = record.group, json["ranks"] = record.ranks;
  if (record.flops > 0) json["flops"] = record.flops;
  json["bytes"] = record.bytes;
  return json;
}

// Bytes, FLOPs and calls of a worker and a step, under the names of the text.
nlohmann::ordered_json as_json(const RunConfig& config, const DryRun& run, const ModelCounts& counts) {
  nlohmann::ordered_json json = {{"layout", config.parallel.layout.to_string()},
                                 {"parameters", counts.total},
                                 {"active_parameters", counts.active},
                                 {"model_flops_per_token", counts.flops_per_token},
                                 {"mtp_parameters", counts.mtp.total},
                                 {"mtp_active_parameters", counts.mtp.active},
                                 {"mtp_flops_per_token", counts.mtp.flops_per_token},
                                 {"cache_bytes_per_token", or_null(cache_bytes(config, counts))},
                                 {"tokens_per_step", run.global_sequences * config.model.seq_len},
                                 {"bubble_share", or_null(bubble_share(config))},
                                 {"memory_bytes", as_json(run.memory)}};
  for (std::size_t k = 0; k < kNumWorkKinds; ++k) {
    const WorkMeter::Entry& work = run.work.totals()[static_cast<WorkKind>(k)];
    json["work"][name_of(static_cast<WorkKind>(k))] = {
        {"flops", work.flops}, {"bytes", work.bytes}, {"calls", work.calls}};
  }
  json["calls"] = nlohmann::ordered_json::array();
  for (const auto& [record, calls] : run.work.calls()) json["calls"].push_back(as_json(record, calls));
  return json;
}

int run_plan(const PlanOptions& options) {
  auto [config, findings] = read_run_config(options.config.file, options.config.overrides);
  config.device = resolved(config.device);
  check_run(config, {.world = options.world_size}, findings);
  findings.throw_if_any();
  const ModelCounts counts = count_model(config.model);
  const std::vector<PipelineRankPlan> ranks = plan_pipeline(config, options.world_size);
  const auto memory_of = [](const PipelineRankPlan& rank) { return rank.run.memory.total(); };
  const DryRun& run = std::ranges::max_element(ranks, {}, memory_of)->run;  // the worker that needs most
  if (options.json) {
    nlohmann::ordered_json json = as_json(config, run, counts);
    json["pipeline"] = as_json(ranks);
    fmt::print("{}\n", json.dump(2));
    return static_cast<int>(ExitCode::kOk);
  }
  const double tokens = static_cast<double>(run.global_sequences * config.model.seq_len);
  fmt::print("{} workers: {}\n", options.world_size, config.parallel.layout.to_string());
  fmt::print("parameters: {} in all, {} active for a token\n", counts.total, counts.active);
  fmt::print("model FLOPs: {:.4g} per token, {:.4g} per step of {:.0f} tokens\n", counts.flops_per_token,
             counts.flops_per_token * tokens, tokens);
  if (config.model.mtp.depth > 0) {
    fmt::print("multi-token prediction, apart: {} parameters, {} active; {:.4g} FLOPs per token\n",
               counts.mtp.total, counts.mtp.active, counts.mtp.flops_per_token);
  }
  if (const std::optional<std::int64_t> cache = cache_bytes(config, counts)) {
    fmt::print("cache of generation: {} B per token\n", *cache);
  }
  if (ranks.size() > 1) print_pipeline(config, ranks);
  print_memory(run.memory, config.device);
  print_work(run.work.totals());
  if (config.train.steps > 0 || config.train.tokens > 0) {
    fmt::print("steps: {}\n", steps_to_come(config.train, config.model.seq_len, {}));
  }
  return static_cast<int>(ExitCode::kOk);
}

}  // namespace

void add_plan(CLI::App& app, ChosenCommand& chosen) {
  CLI::App* command = app.add_subcommand(
      "plan", "Memory, parameters, FLOPs and wire bytes of a run, from a dry run without memory");
  auto options = std::make_shared<PlanOptions>();
  add_config_arguments(*command, options->config);
  command->add_option("--world", options->world_size, "Workers of the planned run")
      ->capture_default_str()
      ->check(at_least(1));
  command->add_flag("--json", options->json, "As JSON");
  command->callback([options, &chosen] { chosen.run = [options](Job&) { return run_plan(*options); }; });
}

}  // namespace jevons
