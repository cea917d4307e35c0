// The commands of the program. Each lies in a file of its own: arguments, as CLI11 takes them, and what it
// does with them. A command returns its exit code; what goes wrong is thrown as Error and caught in main
// alone. Results go to standard output, logs to standard error. Only commands that need a world may use MPI.
#pragma once

#include <functional>

#include "parallel/communicator.h"
#include "parallel/mpi/mpi_session.h"

namespace CLI {
class App;
}

namespace jevons {

// The workers that were started together, as a command sees them.
struct Job {
  Communicator& world;
  int local_workers;  // on this host
  int local_rank;     // of this one
};

// What the command line asks for.
struct ChosenCommand {
  std::function<void(const LaunchPlace&)> begin;  // before MPI is initialised; may be empty
  std::function<int(Job&)> run;                   // empty: no command was named
  bool needs_world = false;  // else every worker would do the same, and MPI is left alone
};

// Each adds its command to `app`, which fills `chosen` when it is parsed; both outlive that.
void add_train(CLI::App& app, ChosenCommand& chosen);
void add_generate(CLI::App& app, ChosenCommand& chosen);
void add_score(CLI::App& app, ChosenCommand& chosen);
void add_plan(CLI::App& app, ChosenCommand& chosen);
void add_schedule(CLI::App& app, ChosenCommand& chosen);
void add_data(CLI::App& app, ChosenCommand& chosen);
void add_config(CLI::App& app, ChosenCommand& chosen);
void add_checkpoint(CLI::App& app, ChosenCommand& chosen);
void add_cost(CLI::App& app, ChosenCommand& chosen);
void add_report(CLI::App& app, ChosenCommand& chosen);
void add_doctor(CLI::App& app, ChosenCommand& chosen);

}  // namespace jevons
