#include "parallel/mpi/mpi_session.h"

#include <mpi.h>
#include <unistd.h>

#include <charconv>
#include <cstdlib>
#include <exception>
#include <initializer_list>
#include <optional>
#include <string_view>
#include <thread>

#include "kernels/core/error.h"
#include "kernels/core/host_name.h"
#include "parallel/mpi/mpi_communicator.h"

namespace jevons {

namespace {

// Open MPI reads its settings from the environment; a value that is already there wins.
void yield_when_oversubscribed() {
  const char* local_ranks = std::getenv("OMPI_COMM_WORLD_LOCAL_SIZE");
  const unsigned cores = std::thread::hardware_concurrency();
  if (local_ranks != nullptr && cores > 0 && std::strtoul(local_ranks, nullptr, 10) > cores) {
    setenv("OMPI_MCA_mpi_yield_when_idle", "1", 0);
  }
}

// Of the first of these variables that is set to one.
std::optional<int> number_of(std::initializer_list<const char*> variables) {
  for (const char* variable : variables) {
    const char* text = std::getenv(variable);
    if (text == nullptr) continue;
    const std::string_view digits(text);
    int number = 0;
    const auto [end, error] = std::from_chars(digits.begin(), digits.end(), number);
    if (error == std::errc() && end == digits.end() && number >= 0) return number;
  }
  return std::nullopt;
}

}  // namespace

bool started_by_mpi_launcher() {
  for (const char* variable : {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK", "MV2_COMM_WORLD_SIZE"}) {
    if (std::getenv(variable) != nullptr) return true;
  }
  return false;
}

LaunchPlace launch_place() {
  LaunchPlace place;
  if (started_by_mpi_launcher()) {
    const auto rank = number_of({"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "MV2_COMM_WORLD_RANK"});
    const auto size = number_of(
        {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"});
    if (rank && size && *rank < *size) place = {*rank, *size, {}};
  }
  const char* name = std::getenv("PMIX_NAMESPACE");
  const char *job = std::getenv("SLURM_JOB_ID"), *step = std::getenv("SLURM_STEP_ID");
  if (name != nullptr) {
    place.job = name;
  } else if (job != nullptr && step != nullptr) {
    place.job = fmt::format("slurm-{}.{}", job, step);
  } else {
    place.job = fmt::format("{}-{}", mpi_facts().host, getppid());
  }
  return place;
}

std::string alone_by_mistake(int world_size) {
  // A launcher that says itself that it started one is believed.
  const auto started = number_of(
      {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"});
  if (world_size > 1 || started.value_or(1) <= 1) return "";
  return fmt::format(
      "this worker is alone, though its job has {} tasks: MPI sees none of the others, and each of them "
      "would be a run of its own. Start them with srun --mpi=pmix (srun --mpi=list shows what this Slurm "
      "has), or with mpirun",
      *started);
}

MpiFacts mpi_facts() {
  MpiFacts facts;
  char text[MPI_MAX_LIBRARY_VERSION_STRING];
  int length = 0;
  MPI_Get_library_version(text, &length);
  facts.library.assign(text, static_cast<std::size_t>(length));
  facts.library = facts.library.substr(0, facts.library.find_first_of(",\n"));

  facts.host = host_name();

  int initialized = 0;
  MPI_Initialized(&initialized);
  if (initialized != 0) {
    int level = MPI_THREAD_SINGLE;
    MPI_Query_thread(&level);
    facts.thread_level = level == MPI_THREAD_MULTIPLE     ? "multiple"
                         : level == MPI_THREAD_SERIALIZED ? "serialized"
                         : level == MPI_THREAD_FUNNELED   ? "funneled"
                                                          : "single";
  }
  return facts;
}

MpiSession::MpiSession() {
  yield_when_oversubscribed();
  int provided = MPI_THREAD_SINGLE;
  if (MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided) != MPI_SUCCESS) {
    fail(ExitCode::kFailure, "MPI did not start");
  }
  ENSURE(provided >= MPI_THREAD_FUNNELED, "this MPI cannot be used by a program with threads");

  MPI_Comm node = MPI_COMM_NULL;
  MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node);
  MPI_Comm_rank(node, &local_rank_);
  MPI_Comm_size(node, &local_size_);
  MPI_Comm_free(&node);

  char host[MPI_MAX_PROCESSOR_NAME];
  int length = 0;
  MPI_Get_processor_name(host, &length);
  host_.assign(host, static_cast<std::size_t>(length));
  world_ = make_mpi_world();
}

MpiSession::~MpiSession() {
  if (std::uncaught_exceptions() > 0) {
    world_.release();
    return;
  }
  world_.reset();
  MPI_Finalize();
}

}  // namespace jevons
