// The single checks of `jevons doctor`: what is there, whether it is good for training, what to do if not.
#pragma once

#include <string>
#include <vector>

#include "parallel/communicator.h"

namespace jevons {

enum class Health { kOk, kWarn, kBad };

struct Check {
  std::string name;
  Health health = Health::kOk;
  std::string finding;
  std::string advice;  // empty when kOk
};

// Collective: names the hosts.
Check check_mpi(Communicator& world);
// Which mpirun is in the path, whether it fits the program, and what it would refuse.
Check check_mpirun();
// Collective: compares the cores that the workers of one host are bound to.
Check check_binding(Communicator& world);
Check check_cores();
Check check_cpu_features();
std::vector<Check> check_math();
Check check_memory();
Check check_huge_pages();
// Writes and removes a file in `directory`, or in the nearest directory above it that exists.
std::vector<Check> check_disk(const std::string& directory);
Check check_energy();
std::vector<Check> check_gpus();

}  // namespace jevons
