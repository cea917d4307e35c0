// The GPUs of this machine, for the layers above: which there are, the choice of one, its memory, facts for
// people. The back end that the executable links defines it (kernels/cuda or kernels/no_cuda).
#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "kernels/core/error.h"

namespace jevons::device {

// GPUs that this process can use; if there is none, `reason` says why in a few words ("no CUDA driver").
struct Availability {
  int devices = 0;
  std::string reason;
};
Availability availability() noexcept;
// As its driver calls it: "NVIDIA H100 80GB HBM3".
std::string name(int index);

// Selects GPU `index` of [0, devices), and says why this program cannot use it, which names it; empty if it
// can.
std::string obstacle(int index);
// Makes GPU `index` the one that the calling thread works on. Once, before anything else. Throws
// Error(kUsage) with the obstacle if there is one.
void select(int index);

// What allocations on a GPU throw.
class OutOfMemory : public Error {
 public:
  explicit OutOfMemory(const std::string& message) : Error(ExitCode::kFailure, message) {}
};

// Of the selected GPU, all processes together.
struct MemoryInfo {
  std::size_t free = 0, total = 0;
  std::size_t pool_unused = 0;  // not free: only stream-ordered memory of this process gets it
};
MemoryInfo memory_info();

// What the back end is made of and stands on, as (name, version) and one line per GPU: for people.
struct Facts {
  std::vector<std::pair<std::string, std::string>> versions;
  std::vector<std::string> gpus;  // "0: NVIDIA H100, compute capability 9.0, 132 multiprocessors, 79.2 GiB"
  std::string links;              // between the GPUs; empty with fewer than two
};
// For a process that can use GPUs.
Facts facts();

}  // namespace jevons::device
