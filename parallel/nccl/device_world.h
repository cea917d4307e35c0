// Collectives between the GPUs of workers, behind Communicator. Tensors on kCuda go through NCCL; tensors on
// the CPU through the communicator of the hosts, MPI's, which also carries what NCCL needs to start. No NCCL
// or CUDA types here: parallel/no_nccl has the same function for builds without them. Order on the device: a
// collective starts behind all work that `compute` was given before the call, on a stream of its own;
// Work::wait() orders `compute` behind it and does not block the host. So "done" means done for `compute`.
// The communicators are the links of `compute`.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "kernels/core/stream.h"
#include "parallel/communicator.h"

namespace jevons::nccl {

// Version of the library: "2.28.9".
std::string version();

// Over the ranks of `hosts`, which must outlive it and have no meter of its own, as must `compute`. It tells
// the whereabouts of `hosts`. Collective. Every rank works on the GPU that it has selected. If two of them
// have the same GPU, which NCCL does not allow, all collectives of device tensors are staged through the
// hosts instead, with a warning. `scratch_bytes`: device memory that one communicator's sums may use at most,
// in which they wait for all ranks' parts. Throws Error(kUsage) if NCCL is older than 2.26.
inline constexpr std::size_t kScratchBytes = std::size_t{32} << 20;
// What NCCL itself takes for a communicator of several ranks: channels with buffers of 4 MiB and their kin.
// An estimate from its defaults, for memory plans; it differs by topology.
inline constexpr std::size_t kLibraryBytes = std::size_t{256} << 20;
std::unique_ptr<Communicator> make_device_world(Communicator& hosts, Stream& compute,
                                                std::size_t scratch_bytes = kScratchBytes);

// How many ranks of `hosts`, this one included, have the memory of the GPU that this rank has selected; each
// part of a GPU (MIG) has memory of its own. Collective.
int ranks_on_this_gpu(Communicator& hosts);

}  // namespace jevons::nccl
