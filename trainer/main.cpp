// The jevons program: the command line, and the one place that catches errors.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <map>
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
#include "trainer/run/host.h"

namespace jevons {
namespace {

struct CommandLine {
  ChosenCommand command;
  LogLevel log_level = LogLevel::kInfo;
};

const std::map<std::string, LogLevel>& log_levels() {
  static const std::map<std::string, LogLevel> levels = {{"debug", LogLevel::kDebug},
                                                         {"info", LogLevel::kInfo},
                                                         {"warning", LogLevel::kWarning},
                                                         {"error", LogLevel::kError}};
  return levels;
}

// The command, or command of a command, that was understood last.
const CLI::App& last_command(const CLI::App& app) {
  const auto commands = app.get_subcommands();
  return commands.empty() ? app : last_command(*commands.front());
}

CommandFacts facts_of(const CLI::App& command) {
  CommandFacts facts{.subcommands = {}, .takes_options = command.get_option_no_throw("overrides") != nullptr};
  for (const CLI::App* known : command.get_subcommands({})) facts.subcommands.push_back(known->get_name());
  return facts;
}

// Help, version or a mistake, as a command that prints it once for all workers.
void answer_from_parser(const CLI::App& app, const CLI::ParseError& error, ChosenCommand& chosen) {
  std::ostringstream out, err;
  const int code = app.exit(error, out, err) == 0 ? 0 : static_cast<int>(ExitCode::kUsage);
  const std::vector<std::string> left = app.remaining(/*recurse=*/true);
  if (code != 0 && !left.empty()) err << hint_about(left.front(), facts_of(last_command(app)));
  chosen.needs_world = true;
  chosen.begin = nullptr;
  chosen.run = [code, out = out.str(), err = err.str()](Job& job) {
    if (job.world.rank() == 0) {
      fmt::print("{}", out);
      fmt::print(stderr, "{}", err);
    }
    return code;
  };
}

// "jevons", "jevons data": says what could have followed.
void answer_incomplete(const CLI::App& app, ChosenCommand& chosen) {
  chosen.needs_world = true;
  chosen.run = [help = app.help()](Job& job) {
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
  add_train(app, line.command);
  add_generate(app, line.command);
  add_score(app, line.command);
  add_plan(app, line.command);
  add_schedule(app, line.command);
  add_data(app, line.command);
  add_config(app, line.command);
  add_checkpoint(app, line.command);
  add_cost(app, line.command);
  add_report(app, line.command);
  add_doctor(app, line.command);
  try {
    app.parse(argc, argv);
    if (!line.command.run) answer_incomplete(app, line.command);
  } catch (const CLI::ParseError& error) {
    answer_from_parser(app, error, line.command);
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
    return line.command.run(job);
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
  if (line.command.begin) line.command.begin(launch_place());
  if (line.command.needs_world && started_by_mpi_launcher()) {
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
