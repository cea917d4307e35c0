// How tests steer the emulated device and learn what it found.
// The environment variable JEVONS_EMULATION sets the start, e.g. "streams=lazy order=random seed=3 guard=1
// devices=2".
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace emulation {

// In which order the threads of a block that could go on do so, and the blocks of a grid.
enum class Order : std::uint8_t { kNatural, kReverse, kRandom };
// When the work of streams is done: at the call; only when something waits for it; or in any legal order.
enum class Streams : std::uint8_t { kEager, kLazy, kRandom };

struct Settings {
  Order order = Order::kNatural;
  Streams streams = Streams::kLazy;
  std::uint64_t seed = 1;                      // of both random orders
  bool guard = true;                           // the host faults when it touches device memory
  int devices = 8;                             // that cudaGetDeviceCount reports; 0: there is no driver
  std::size_t memory = std::size_t{16} << 30;  // bytes of a GPU, at most that; in the environment in MiB
  bool code = true;                            // whether the program has code for it
  bool pools = true;                           // whether its driver has memory pools
  bool mapping = true;                         // whether it can map memory into reserved addresses
  bool fill = true;                            // new memory with 0xff; else it is 0 and untouched
  int allocations_fail_after = 0;              // allocations of this process fail after as many; 0: never
  bool exact_algorithms = false;               // whether an algorithm of cuBLASLt takes its own shape alone
  bool steady_attention = true;                // whether cuDNN has an engine that gives the same bits again
  bool attention_backward = true;              // whether cuDNN takes the backward graph of attention
  int nccl_fails = 0;                          // every n-th ncclSend or ncclRecv fails; 0: none
  int nccl_stalls = 0;       // the n-th and all later ones never end, as over a link that broke; 0: none
  int nccl_tells = 0;        // ncclCommGetAsyncError tells so from its n-th call on; 0: never
  int nccl_start_hangs = 0;  // the n-th ncclCommInitRank does not come back; 0: none
};
const Settings& settings();
// Finishes the work under way, then goes on under other settings.
void configure(const Settings& settings);

// Whether the device is an emulated one at all.
bool emulated();
// Whether the kernels of this program were compiled for the checker.
bool checking();

// How often device memory was allocated.
std::int64_t device_allocations();
// How often the host waited for a stream, an event or the device.
std::int64_t host_waits();
// Streams that exist.
int live_streams();
// Messages of NCCL whose buffer does not begin on 16 bytes: NCCL moves those byte by byte.
std::int64_t misaligned_messages();

// What was found since the last call: accesses the checker objects to, misuse of the runtime, launches that
// failed. Also clears the error that CUDA calls return after a failed launch. A program that ends with
// findings not taken exits with code 66.
std::vector<std::string> take_findings();

}  // namespace emulation
