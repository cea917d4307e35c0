// Streams and events of the emulated GPU. Every operation gets a number when the host gives it to a stream;
// it runs at once, when something waits for it, or at any legal time (Settings::streams). Which operation
// must come before which is kept as a vector clock per stream, joined at the calls that order: events and
// host synchronisation. It does not depend on when operations ran.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <functional>
#include <string>

namespace emulation {

inline constexpr std::uint32_t kFirstOperation = 3;  // lower numbers have other meanings to the checker

// An operation in stream order. It may return cudaErrorNotReady to be called again later, as one that waits
// for another process does; other streams go on meanwhile. Returns the error that a CUDA call has left
// behind.
using Operation = std::function<cudaError_t()>;
cudaError_t enqueue(cudaStream_t stream, Operation operation);
// The number that the next operation gets, of whatever stream.
std::uint32_t next_operation();

// Whether every run finishes `earlier` before it starts `later`.
bool happened_before(std::uint32_t earlier, std::uint32_t later);

// Priorities are from kHighestPriority to 0, the usual one, as a GPU's.
inline constexpr int kHighestPriority = -5;
cudaStream_t create_stream(int priority);
int priority_of(cudaStream_t stream);
void destroy_stream(cudaStream_t stream);
cudaError_t synchronise(cudaStream_t stream);
void finish_all_streams();
// Whether all its work is done, after all that need not wait for something outside: a host that asks waits.
bool idle(cudaStream_t stream);

cudaEvent_t create_event();
void destroy_event(cudaEvent_t event);
cudaError_t record(cudaEvent_t event, cudaStream_t stream);
cudaError_t wait_for(cudaStream_t stream, cudaEvent_t event);
cudaError_t synchronise(cudaEvent_t event);
bool reached(cudaEvent_t event);  // as idle()

// Reports misuse of the runtime and keeps `error` for the calls that follow.
cudaError_t misuse(cudaError_t error, const std::string& what);
cudaError_t last_error();
void clear_error();
void reseed(std::uint64_t seed);

}  // namespace emulation
