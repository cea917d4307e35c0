// jevons doctor: is this machine, as this job sees it, fit for training?
#include "trainer/commands/doctor_checks.h"

#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "kernels/core/error.h"
#include "trainer/commands/arguments.h"
#include "trainer/commands/commands.h"

namespace jevons {
namespace {

struct DoctorOptions {
  std::string directory = "runs";  // where the disk is measured
  bool json = false;
};

const char* name_of(Health health) {
  switch (health) {
    case Health::kOk:
      return "ok";
    case Health::kWarn:
      return "warn";
    case Health::kBad:
      return "bad";
  }
  return "?";
}

Health worst_of(const std::vector<Check>& checks) {
  Health worst = Health::kOk;
  for (const Check& check : checks) worst = std::max(worst, check.health);
  return worst;
}

void print_text(const std::vector<Check>& checks) {
  std::size_t width = 0;
  for (const Check& check : checks) width = std::max(width, check.name.size());
  for (const Check& check : checks) {
    fmt::print("{:<4}  {:<{}}  {}\n", name_of(check.health), check.name, width, check.finding);
    if (!check.advice.empty()) fmt::print("      {:<{}}  -> {}\n", "", width, check.advice);
  }
}

void print_json(const std::vector<Check>& checks) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const Check& check : checks) {
    list.push_back({{"name", check.name},
                    {"health", name_of(check.health)},
                    {"finding", check.finding},
                    {"advice", check.advice}});
  }
  const nlohmann::ordered_json report = {{"health", name_of(worst_of(checks))}, {"checks", list}};
  fmt::print("{}\n", report.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
}

int run_doctor(const DoctorOptions& options, Communicator& world) {
  const Check mpi = check_mpi(world), binding = check_binding(world);
  if (world.rank() != 0) return static_cast<int>(ExitCode::kOk);
  std::vector<Check> checks = {mpi, check_mpirun(), binding, check_cores(), check_cpu_features()};
  const auto append = [&](std::vector<Check> more) { checks.insert(checks.end(), more.begin(), more.end()); };
  append(check_math());
  append({check_memory(), check_huge_pages()});
  append(check_disk(options.directory));
  append({check_energy()});
  append(check_gpus());
  options.json ? print_json(checks) : print_text(checks);
  return static_cast<int>(worst_of(checks) == Health::kBad ? ExitCode::kFailure : ExitCode::kOk);
}

}  // namespace

void add_doctor(CLI::App& app, ChosenCommand& chosen) {
  CLI::App* command = app.add_subcommand(
      "doctor", "Check MPI, cores, math, memory, disk and GPU; under mpirun also the workers");
  auto options = std::make_shared<DoctorOptions>();
  command->add_option("--dir", options->directory, "Directory whose disk is measured")
      ->capture_default_str()
      ->check(written_out());
  command->add_flag("--json", options->json, "As JSON");
  command->callback([options, &chosen] {
    chosen.needs_world = true;
    chosen.run = [options](Job& job) { return run_doctor(*options, job.world); };
  });
}

}  // namespace jevons
