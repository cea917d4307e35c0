// What launchers put into the environment of a worker.
#include <cstdlib>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "parallel/mpi/mpi_session.h"
#include "tests/support/catch.h"

namespace jevons {
namespace {

using Variables = std::map<std::string, std::string>;

// Exactly these of the variables that launchers set; what was there comes back at the end.
class Launcher {
 public:
  explicit Launcher(const Variables& variables) {
    for (const char* name :
         {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMIX_NAMESPACE", "PMI_RANK",
          "PMI_SIZE", "MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE", "SLURM_JOB_ID", "SLURM_STEP_ID",
          "SLURM_PROCID", "SLURM_NTASKS", "SLURM_STEP_NUM_TASKS"}) {
      const char* before = std::getenv(name);
      before_[name] = before != nullptr ? std::optional<std::string>(before) : std::nullopt;
      unsetenv(name);
    }
    for (const auto& [name, value] : variables) setenv(name.c_str(), value.c_str(), 1);
  }
  ~Launcher() {
    for (const auto& [name, value] : before_) {
      value ? setenv(name.c_str(), value->c_str(), 1) : unsetenv(name.c_str());
    }
  }
  Launcher(const Launcher&) = delete;
  Launcher& operator=(const Launcher&) = delete;

 private:
  std::map<std::string, std::optional<std::string>> before_;
};

void check_place(const Variables& variables, int rank, int size, const std::string& job) {
  const Launcher launcher(variables);
  const LaunchPlace place = launch_place();
  CHECK(place.rank == rank);
  CHECK(place.size == size);
  if (!job.empty()) CHECK(place.job == job);
  CHECK_FALSE(place.job.empty());
}

}  // namespace

TEST_CASE("a worker's place is known before MPI is initialised", "[launch_place]") {
  // mpirun of Open MPI, in a job of Slurm with more tasks
  check_place({{"OMPI_COMM_WORLD_RANK", "3"},
               {"OMPI_COMM_WORLD_SIZE", "4"},
               {"PMIX_RANK", "3"},
               {"PMIX_NAMESPACE", "2031550465"},
               {"SLURM_NTASKS", "16"}},
              3, 4, "2031550465");
  // srun --mpi=pmix and --mpi=pmi2
  check_place({{"PMIX_RANK", "7"}, {"PMIX_NAMESPACE", "slurm.pmix.12.0"}, {"SLURM_STEP_NUM_TASKS", "8"}}, 7,
              8, "slurm.pmix.12.0");
  check_place({{"PMI_RANK", "1"}, {"SLURM_NTASKS", "2"}, {"SLURM_JOB_ID", "12"}, {"SLURM_STEP_ID", "5"}}, 1,
              2, "slurm-12.5");
  check_place({{"PMI_RANK", "1"}, {"PMI_SIZE", "2"}}, 1, 2, "");
  check_place({{"MV2_COMM_WORLD_RANK", "2"}, {"MV2_COMM_WORLD_SIZE", "3"}}, 2, 3, "");
  // By hand, also in the shell of a job; nonsense is no place.
  check_place({}, 0, 1, "");
  check_place({{"SLURM_PROCID", "2"}, {"SLURM_NTASKS", "4"}}, 0, 1, "");
  check_place({{"OMPI_COMM_WORLD_RANK", "4"}, {"OMPI_COMM_WORLD_SIZE", "4"}}, 0, 1, "");
  check_place({{"OMPI_COMM_WORLD_RANK", "x"}, {"OMPI_COMM_WORLD_SIZE", "4"}}, 0, 1, "");
}

TEST_CASE("alone by mistake: several tasks, and MPI sees one", "[launch_place]") {
  const auto text = [](const Variables& variables, int world) {
    const Launcher launcher(variables);
    return alone_by_mistake(world);
  };
  CHECK(text({{"SLURM_NTASKS", "4"}}, 1).find("srun --mpi=pmix") != std::string::npos);
  CHECK(text({{"PMI_RANK", "0"}, {"PMI_SIZE", "4"}}, 1).find("has 4 tasks") != std::string::npos);
  CHECK(text({{"SLURM_NTASKS", "4"}}, 4).empty());
  CHECK(text({{"SLURM_NTASKS", "1"}}, 1).empty());
  CHECK(text({{"OMPI_COMM_WORLD_SIZE", "1"}, {"SLURM_NTASKS", "4"}}, 1).empty());  // mpirun -n 1
  CHECK(text({}, 1).empty());
}

}  // namespace jevons
