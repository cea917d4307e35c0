// CPU side of kernels/routing.h where a kernel is not a row kernel.
#pragma once

#include "kernels/routing.h"

namespace jevons::cpu {

void routing_counts(const Context& ctx, Tensor indices, const Segments& segments, Tensor counts);

}  // namespace jevons::cpu
