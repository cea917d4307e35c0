// The jevons program: the command line, and the one place that catches errors.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <cstdio>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <new>
#include <sstream>
#include <string>

#include "kernels/core/error.h"
#include "kernels/core/log.h"
#include "parallel/agree.h"
#include "parallel/meta/meta_communicator.h"
#include "parallel/mpi/mpi_session.h"
#include "trainer/commands/commands.h"
#include "trainer/commands/hints.h"
#include "trainer/config/paths.h"
#include "trainer/run/host.h"

namespace jevons {
namespace {

// The workers that were started together, as a command sees them.
struct Job {
  Communicator& world;
  int local_workers;  // on this host
  int local_rank;     // of this one
};

struct CommandLine {
  std::function<void(const LaunchPlace&)>
      begin;  // what is to be done before MPI is initialised; may be empty
  std::function<int(Job&)> run;
  bool needs_world = false;  // else every worker would do the same, and MPI is left alone
  LogLevel log_level = LogLevel::kInfo;
};

const std::map<std::string, LogLevel>& log_levels() {
  static const std::map<std::string, LogLevel> levels = {{"debug", LogLevel::kDebug},
                                                         {"info", LogLevel::kInfo},
                                                         {"warning", LogLevel::kWarning},
                                                         {"error", LogLevel::kError}};
  return levels;
}

CLI::Validator at_least(int least) {
  const auto problem = [least](const std::string& text) {
    double value = 0;
    const bool good = CLI::detail::lexical_cast(text, value) && std::isfinite(value) && value >= least;
    return good ? std::string() : fmt::format("{} is not a number of at least {}", text, least);
  };
  return {problem, fmt::format(">={}", least)};
}

// For files that are made: a shell leaves the ~ of --csv=~/x as it is.
CLI::Validator written_out() {
  return {[](const std::string& path) { return unexpanded_in(path); }, ""};
}

void add_config_arguments(CLI::App& command, ConfigArguments& config) {
  command.add_option("file", config.file, "Configuration (YAML)")->required()->type_name("FILE");
  command
      .add_option("overrides", config.overrides, "Options that win over the file's, as model.num_layers=2")
      ->type_name("KEY=VALUE");
}

constexpr const char* kCheckpointHelp = "A checkpoint, or a run's directory: then the one on which it stands";

void add_train(CLI::App& app, CommandLine& line) {
  CLI::App* command =
      app.add_subcommand("train", "Train a model; start it under mpirun for more than one worker");
  auto options = std::make_shared<TrainOptions>();
  add_config_arguments(*command, options->config);
  command
      ->add_option("--resume", options->resume,
                   "auto: from the checkpoint that the run made last or went back to; never; or the PATH of "
                   "a checkpoint")
      ->capture_default_str()
      ->type_name("auto|never|PATH");
  command
      ->add_option("--init-from", options->init_from,
                   "If nothing is resumed: weights from this checkpoint or run, step 0; a dense FFN becomes "
                   "every expert of its layer")
      ->type_name("PATH");
  command
      ->add_option("--exit-after-minutes", options->exit_after_minutes,
                   "Finish the step, save and exit with code 75 after so long; 0: no limit")
      ->capture_default_str()
      ->check(at_least(0));
  auto start = std::make_shared<TrainStart>();
  command->callback([options, start, &line] {
    line.needs_world = true;
    line.begin = [options, start](const LaunchPlace& place) {
      options->process_start = process_start_time();
      *start = begin_train(*options, place);
    };
    line.run = [options, start](Job& job) {
      options->local_workers = job.local_workers;
      options->local_rank = job.local_rank;
      return run_train(*options, *start, job.world);
    };
  });
}

void add_generate(CLI::App& app, CommandLine& line) {
  CLI::App* command = app.add_subcommand("generate", "Continue a text with a trained model, on one worker");
  auto options = std::make_shared<GenerateOptions>();
  command->add_option("checkpoint", options->checkpoint, kCheckpointHelp)->required()->type_name("PATH");
  command->add_option("--prompt", options->prompt, "Text to continue")->type_name("TEXT");
  command->add_option("--max-tokens", options->max_tokens, "Length of the continuation, in tokens")
      ->capture_default_str()
      ->check(at_least(1));
  command->add_option("--temperature", options->temperature, "0: always the likeliest token; 1: as trained")
      ->capture_default_str()
      ->check(at_least(0));
  command->add_option("--top-k", options->top_k, "Draw among this many likeliest tokens; 0: among all")
      ->capture_default_str()
      ->check(at_least(0));
  command->add_option("--seed", options->seed, "Of the random draws")->capture_default_str();
  command->callback([options, &line] { line.run = [options](Job&) { return run_generate(*options); }; });
}

void add_plan(CLI::App& app, CommandLine& line) {
  CLI::App* command = app.add_subcommand(
      "plan", "Memory, parameters, FLOPs and wire bytes of a run, from a dry run without memory");
  auto options = std::make_shared<PlanOptions>();
  add_config_arguments(*command, options->config);
  command->add_option("--world", options->world_size, "Workers of the planned run")
      ->capture_default_str()
      ->check(at_least(1));
  command->add_flag("--json", options->json, "As JSON");
  command->callback([options, &line] { line.run = [options](Job&) { return run_plan(*options); }; });
}

void add_data_prepare(CLI::App& data, CommandLine& line) {
  CLI::App* command = data.add_subcommand("prepare", "Turn text or JSON into a token file (.bin and .idx)");
  auto options = std::make_shared<DataPrepareOptions>();
  command
      ->add_option(
          "inputs", options->inputs,
          "Text, JSONL or JSON, plain, .gz or .zst; read in this order. A quoted pattern takes the files "
          "that it matches, - standard input")
      ->required()
      ->type_name("FILE");
  command->add_option("-o,--output", options->output, "Prefix of the .bin/.idx pair")
      ->required()
      ->check(written_out())
      ->type_name("PREFIX");
  command
      ->add_option(
          "--format", options->format,
          "auto: by name and content; text; jsonl: an object per line; json: an array of objects, or "
          "objects one after another")
      ->capture_default_str()
      ->check(CLI::IsMember({"auto", "text", "jsonl", "json"}));
  command->add_option("--json-key", options->json_key, "JSON: the field that holds the text")
      ->capture_default_str();
  command->add_flag(
      "--skip-bad-lines", options->skip_bad_lines,
      "JSON: leave out lines that give no text, and say how many and which, instead of stopping");
  command->add_option("--separator-line", options->separator_line,
                      "Text: a line like this ends a document [one document per file]");
  command->add_option("--tokenizer", options->tokenizer, "How text becomes tokens")
      ->capture_default_str()
      ->check(CLI::IsMember({"byte"}));
  command->callback([options, &line] { line.run = [options](Job&) { return run_data_prepare(*options); }; });
}

void add_data(CLI::App& app, CommandLine& line) {
  CLI::App* data = app.add_subcommand("data", "Token files: make them, look into them");
  add_data_prepare(*data, line);
  CLI::App* command = data->add_subcommand("inspect", "What a token file holds");
  auto options = std::make_shared<DataInspectOptions>();
  command->add_option("path", options->path, "Prefix of a .bin/.idx pair, or an llm.c .bin")
      ->required()
      ->type_name("PATH");
  command->add_option("--tokens", options->show_tokens, "Print so many of the first tokens")
      ->capture_default_str()
      ->check(at_least(0));
  command->callback([options, &line] { line.run = [options](Job&) { return run_data_inspect(*options); }; });
}

void add_config(CLI::App& app, CommandLine& line) {
  CLI::App* config = app.add_subcommand("config", "Configurations: show one, list every option");
  CLI::App* show =
      config->add_subcommand("show", "Check a configuration and print it with every default filled in");
  auto options = std::make_shared<ConfigShowOptions>();
  add_config_arguments(*show, options->config);
  show->add_flag("--help-text", options->help_text, "Explain every option in a comment above it");
  show->callback([options, &line] { line.run = [options](Job&) { return run_config_show(*options); }; });

  CLI::App* schema = config->add_subcommand("schema", "Every option: type, unit, range, default, meaning");
  auto schema_options = std::make_shared<ConfigSchemaOptions>();
  schema->add_flag("--markdown", schema_options->markdown, "As a Markdown table");
  schema->callback([schema_options, &line] {
    line.run = [schema_options](Job&) { return run_config_schema(*schema_options); };
  });
}

void add_checkpoint(CLI::App& app, CommandLine& line) {
  CLI::App* checkpoint = app.add_subcommand("checkpoint", "Checkpoints: list, verify, compare");
  const auto add = [&](const char* name, const char* help, int (*function)(const CheckpointOptions&)) {
    CLI::App* command = checkpoint->add_subcommand(name, help);
    auto options = std::make_shared<CheckpointOptions>();
    command->add_option("path", options->path, kCheckpointHelp)->required()->type_name("PATH");
    command->callback([options, function, &line] { line.run = [=](Job&) { return function(*options); }; });
  };
  add("inspect", "Step, configuration, tensors", run_checkpoint_inspect);
  add("verify", "Read every byte against its checksum", run_checkpoint_verify);
  CLI::App* diff = checkpoint->add_subcommand("diff", "What differs between two: options, tensors");
  auto options = std::make_shared<CheckpointDiffOptions>();
  diff->add_option("a", options->a, kCheckpointHelp)->required()->type_name("A");
  diff->add_option("b", options->b, "Another one")->required()->type_name("B");
  diff->callback([options, &line] { line.run = [options](Job&) { return run_checkpoint_diff(*options); }; });
}

void add_cost(CLI::App& app, CommandLine& line) {
  CLI::App* command =
      app.add_subcommand("cost", "Device-hours and money of runs, restarts and failures included");
  auto options = std::make_shared<CostOptions>();
  command->add_option("paths", options->paths, "Run directories, or directories above them")
      ->required()
      ->type_name("PATH");
  command->add_option("--project", options->project, "Only runs of this cost.project [all]")
      ->type_name("NAME");
  command->add_flag("--json", options->json, "As JSON");
  command->add_option("--csv", options->csv, "Also write one line per launch to this file")
      ->check(written_out())
      ->type_name("FILE");
  command
      ->add_option("--sqlite", options->sqlite, "Also write an SQLite database, made anew from the ledgers")
      ->check(written_out())
      ->type_name("FILE");
  command->callback([options, &line] { line.run = [options](Job&) { return run_cost(*options); }; });
}

void add_report(CLI::App& app, CommandLine& line) {
  CLI::App* command = app.add_subcommand(
      "report", "One self-contained HTML page about a run; several runs lie over each other");
  auto options = std::make_shared<ReportOptions>();
  command->add_option("runs", options->runs, "Run directories")->required()->type_name("RUN");
  command
      ->add_option("-o,--output", options->output,
                   "File to write [report.html in the run's directory; for several runs: here]")
      ->check(written_out())
      ->type_name("FILE");
  command->callback([options, &line] { line.run = [options](Job&) { return run_report(*options); }; });
}

void add_doctor(CLI::App& app, CommandLine& line) {
  CLI::App* command = app.add_subcommand(
      "doctor", "Check MPI, cores, math, memory, disk and GPU; under mpirun also the workers");
  auto options = std::make_shared<DoctorOptions>();
  command->add_option("--dir", options->directory, "Directory whose disk is measured")
      ->capture_default_str()
      ->check(written_out());
  command->add_flag("--json", options->json, "As JSON");
  command->callback([options, &line] {
    line.needs_world = true;
    line.run = [options](Job& job) { return run_doctor(*options, job.world); };
  });
}

// The command, or command of a command, that was understood last.
const CLI::App& last_command(const CLI::App& app) {
  const auto commands = app.get_subcommands();
  return commands.empty() ? app : last_command(*commands.front());
}

CommandFacts facts_of(const CLI::App& command) {
  CommandFacts facts{.takes_options = command.get_option_no_throw("overrides") != nullptr};
  for (const CLI::App* known : command.get_subcommands({})) facts.subcommands.push_back(known->get_name());
  return facts;
}

// Help, version or a mistake, as a command that prints it once for all workers.
void answer_from_parser(const CLI::App& app, const CLI::ParseError& error, CommandLine& line) {
  std::ostringstream out, err;
  const int code = app.exit(error, out, err) == 0 ? 0 : static_cast<int>(ExitCode::kUsage);
  const std::vector<std::string> left = app.remaining(/*recurse=*/true);
  if (code != 0 && !left.empty()) err << hint_about(left.front(), facts_of(last_command(app)));
  line.needs_world = true;
  line.begin = nullptr;
  line.run = [code, out = out.str(), err = err.str()](Job& job) {
    if (job.world.rank() == 0) {
      fmt::print("{}", out);
      fmt::print(stderr, "{}", err);
    }
    return code;
  };
}

// "jevons", "jevons data": says what could have followed.
void answer_incomplete(const CLI::App& app, CommandLine& line) {
  line.needs_world = true;
  line.run = [help = app.help()](Job& job) {
    if (job.world.rank() == 0) fmt::print(stderr, "A command is missing.\n{}", help);
    return static_cast<int>(ExitCode::kUsage);
  };
}

CommandLine parse_command_line(int argc, char** argv) {
  CommandLine line;
  CLI::App app("Jevons trains Mixture-of-Experts transformers and accounts for what it costs.", "jevons");
  app.set_version_flag("--version", fmt::format("jevons {} ({})", JEVONS_VERSION, git_id()));
  app.add_option_function<std::string>(
         "--log-level", [&line](const std::string& name) { line.log_level = log_levels().at(name); },
         "Least important message that is logged [info]")
      ->check(CLI::IsMember({"debug", "info", "warning", "error"}));
  app.footer(
      "Exit codes: 0 done; 2 command line or configuration; 65 bad data or checkpoint; 70 failure;\n"
      "75 stopped early with a checkpoint saved, start the same command again.");
  add_train(app, line);
  add_generate(app, line);
  add_plan(app, line);
  add_data(app, line);
  add_config(app, line);
  add_checkpoint(app, line);
  add_cost(app, line);
  add_report(app, line);
  add_doctor(app, line);
  try {
    app.parse(argc, argv);
    if (!line.run) answer_incomplete(app, line);
  } catch (const CLI::ParseError& error) {
    answer_from_parser(app, error, line);
  }
  return line;
}

// A user's mistake stands for itself, "file:line:col: message"; anything else is logged with time and rank.
void report(const Error& error) {
  log_flush();
  if (error.code() == ExitCode::kUsage) {
    fmt::print(stderr, "{}\n", error.what());
  } else {
    log_error("{}", error.what());
  }
  std::fflush(stderr);
}

// After an error on this worker alone the others would wait for it for ever, so the whole job is ended.
int end_job(const Error& error, Communicator& world) {
  report(error);
  const int code = static_cast<int>(error.code());
  if (world.size() > 1) world.abort(code);
  return code;
}

int run(const CommandLine& line, Job job) {
  log_setup(job.world.rank(), job.world.size(), line.log_level);
  try {
    return line.run(job);
  } catch (const AgreedError& e) {
    if (e.speaks()) report(e);
    job.world.barrier();
    return static_cast<int>(e.code());
  } catch (const Error& e) {
    return end_job(e, job.world);
  } catch (const std::bad_alloc&) {
    return end_job(Error(ExitCode::kFailure, "out of memory"), job.world);
  } catch (const std::exception& e) {
    return end_job(Error(ExitCode::kFailure, e.what()), job.world);
  }
}

int run_program(int argc, char** argv) {
  const CommandLine line = parse_command_line(argc, argv);
  if (line.begin) line.begin(launch_place());
  if (line.needs_world && started_by_mpi_launcher()) {
    MpiSession session;
    return run(line, {session.world(), session.local_size(), session.local_rank()});
  }
  MetaCommunicator alone(0, 1);
  return run(line, {alone, 1, 0});
}

}  // namespace
}  // namespace jevons

int main(int argc, char** argv) {
  try {
    return jevons::run_program(argc, argv);
  } catch (const std::exception& e) {  // MPI itself does not start
    fmt::print(stderr, "{}\n", e.what());
    return static_cast<int>(jevons::ExitCode::kFailure);
  }
}
