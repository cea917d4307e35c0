// Addresses in device memory, as library calls over many matrices want them.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/core/stream.h"

namespace jevons::cuda {

// table (device, one per pointer) := pointers. They travel as parameters of kernels, so that no page-locked
// copy of them must outlive the call. Work of `stream`.
void write_pointers(const Stream& stream, std::span<const void* const> pointers, const void** table);

}  // namespace jevons::cuda
