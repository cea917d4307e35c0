// jevons schedule: the lists of a pipeline schedule, what they cost, and whether a list that somebody wrote
// can run.
#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "kernels/core/error.h"
#include "parallel/pipeline/check.h"
#include "parallel/pipeline/simulate.h"
#include "trainer/commands/arguments.h"
#include "trainer/commands/commands.h"
#include "trainer/io/file.h"
#include "trainer/io/format.h"

namespace jevons {
namespace {

struct ScheduleOptions {
  std::string kind;  // or a file
  std::optional<int> ranks, virtual_stages;
  std::optional<std::int64_t> micro_batches;
  bool pairs = false;
  std::vector<double> times = {1, 1, 1};  // F, B, W of a rank's share of the model
  double exchange = 0, hop = 0;
  bool figures = false, json = false;
};

PipelineSchedule schedule_of(const ScheduleOptions& options) {
  const std::optional<PipelineKind> kind = pipeline_kind(options.kind);
  if (!kind) {
    if (options.ranks || options.virtual_stages || options.micro_batches || options.pairs) {
      fail(
          ExitCode::kUsage,
          "schedule: {} is none of {}; of a file's list the numbers are what it has, without further options",
          options.kind, pipeline_kind_names());
    }
    return parse_schedule(read_text_file(options.kind), options.kind);
  }
  if (!options.ranks || !options.micro_batches)
    fail(ExitCode::kUsage, "schedule: {} needs --ranks and --micro-batches", options.kind);
  return generate_schedule(
      {.kind = *kind,
       .ranks = *options.ranks,
       .micro_batches = *options.micro_batches,
       .virtual_stages = options.virtual_stages.value_or(virtual_stages_of(*kind).value_or(2)),
       .overlap = options.pairs ? PipelineOverlap::kPairs : PipelineOverlap::kNone});
}

// Of all ranks' time.
double bubble(const PipelineFigures& figures) {
  double idle = 0;
  for (const RankFigures& rank : figures.ranks) idle += rank.idle;
  return idle / (figures.makespan * static_cast<double>(figures.ranks.size()));
}

std::string number(double value) {
  return fmt::format("{:.6g}", value);
}

void print_figures(const PipelineFigures& figures) {
  fmt::print("\nmakespan {}, of which ranks idle {:.1f} %\n", number(figures.makespan),
             100 * bubble(figures));
  std::vector<std::vector<std::string>> rows = {
      {"rank", "busy", "idle", "slack", "peak", "W held", "ring depths", "inbox slots"}};
  for (std::size_t r = 0; r < figures.ranks.size(); ++r) {
    const RankFigures& rank = figures.ranks[r];
    rows.push_back({std::to_string(r), number(rank.busy), number(rank.idle), number(rank.slack),
                    number(rank.peak), number(rank.weights_held),
                    fmt::format("{}", fmt::join(rank.ring_depth, " ")), std::to_string(rank.inbox_slots)});
  }
  fmt::print("{}", format_table(rows));
}

nlohmann::ordered_json as_json(const PipelineSchedule& schedule, const PipelineFigures& figures) {
  const PipelineShape& shape = schedule.shape;
  nlohmann::ordered_json json = {{"ranks", shape.ranks},
                                 {"virtual_stages", shape.virtual_stages},
                                 {"micro_batches", shape.micro_batches},
                                 {"placement", shape.placement == StagePlacement::kLoop ? "loop" : "v"},
                                 {"makespan", figures.makespan},
                                 {"idle_share", bubble(figures)},
                                 {"by_rank", nlohmann::ordered_json::array()}};
  for (std::size_t r = 0; r < figures.ranks.size(); ++r) {
    const RankFigures& rank = figures.ranks[r];
    json["by_rank"].push_back({{"actions", to_text(schedule.ranks[r])},
                               {"busy", rank.busy},
                               {"idle", rank.idle},
                               {"slack", rank.slack},
                               {"peak", rank.peak},
                               {"weights_held", rank.weights_held},
                               {"ring_depths", rank.ring_depth},
                               {"inbox_slots", rank.inbox_slots}});
  }
  return json;
}

int run_schedule(const ScheduleOptions& options) {
  if (std::all_of(options.times.begin(), options.times.end(), [](double t) { return t == 0; }))
    fail(ExitCode::kUsage, "schedule: --times are all 0");
  const PipelineSchedule schedule = schedule_of(options);
  if (!options.json) fmt::print("{}", to_text(schedule));
  if (!options.json && !options.figures) return static_cast<int>(ExitCode::kOk);
  const StageTimes rank = {options.times[0], options.times[1], options.times[2], options.exchange};
  const PipelineFigures figures = simulate(schedule, equal_times(schedule.shape, rank, options.hop));
  if (options.json) {
    fmt::print("{}\n", as_json(schedule, figures).dump(2));
  } else {
    print_figures(figures);
  }
  return static_cast<int>(ExitCode::kOk);
}

}  // namespace

void add_schedule(CLI::App& app, ChosenCommand& chosen) {
  CLI::App* command = app.add_subcommand(
      "schedule",
      "A pipeline schedule: what each rank does, one action after the other, and what that costs");
  auto options = std::make_shared<ScheduleOptions>();
  command
      ->add_option("kind", options->kind,
                   fmt::format("{}; or a file with such lists, which is checked", pipeline_kind_names()))
      ->required()
      ->type_name("KIND");
  command->add_option("--ranks", options->ranks, "Ranks of the pipeline")->check(at_least(1));
  command->add_option("--micro-batches", options->micro_batches, "Of each step")->check(at_least(1));
  command
      ->add_option("--virtual", options->virtual_stages,
                   "Stages of a rank [2 where a kind has several, else 1]")
      ->check(at_least(1));
  command->add_flag("--pairs", options->pairs,
                    "interleaved: a forward and a backward in one go, so that expert exchanges are hidden");
  command->add_flag(
      "--figures", options->figures,
      "Then makespan, and by rank: idle time, most activations kept, weight gradients held back, depths "
      "of rings of micro-batches, slots for messages");
  command->add_flag("--json", options->json, "Lists and figures as JSON");
  command
      ->add_option("--times", options->times,
                   "For the figures: F, B and W of a rank's whole share of the model and a micro-batch")
      ->delimiter(',')
      ->expected(3)
      ->capture_default_str()
      ->check(at_least(0))
      ->type_name("F,B,W");
  command->add_option("--exchange", options->exchange, "Of its expert exchanges, on top of F and again of B")
      ->capture_default_str()
      ->check(at_least(0));
  command->add_option("--hop", options->hop, "Of a message between two ranks")
      ->capture_default_str()
      ->check(at_least(0));
  command->callback([options, &chosen] { chosen.run = [options](Job&) { return run_schedule(*options); }; });
}

}  // namespace jevons
