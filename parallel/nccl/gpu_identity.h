// Which GPU a rank works on, so that ranks of one GPU are found, whatever their hosts and containers are
// called. Private to parallel/nccl.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <utility>

namespace jevons::nccl {

// Texts end with 0; ranks send each other the bytes.
struct GpuIdentity {
  std::array<char, 64> host{};       // of this boot of its kernel, which all containers on it see
  std::array<char, 32> bus{};        // address on the host's bus: "0000:1b:00.0"
  std::array<std::byte, 16> uuid{};  // 0 = unknown
};

// Of the selected GPU. Throws Error(kFailure) if there is none.
GpuIdentity identity_of_gpu();

// The first two ranks, (lower, higher), that NCCL would not let work together: with the same GPU, or with
// parts of one (MIG), which differ in their UUIDs alone. (-1, -1) if there are none.
std::pair<int, int> ranks_of_one_gpu(std::span<const GpuIdentity> by_rank);

// How many ranks allocate from the memory that `rank` allocates from, itself included. Parts of a GPU (MIG)
// have each their own.
int ranks_in_memory_of(std::span<const GpuIdentity> by_rank, int rank);

}  // namespace jevons::nccl
