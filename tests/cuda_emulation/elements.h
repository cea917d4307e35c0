// Elements of device memory in the types of the stand-in libraries.
#pragma once

#include <library_types.h>

#include <cstddef>

#include "kernels/core/dtype.h"

namespace emulation {

inline std::size_t element_size(cudaDataType_t type) {
  return type == CUDA_R_64F ? 8 : type == CUDA_R_32F ? 4 : 2;
}

inline double load_element(const void* p, cudaDataType_t type, std::size_t i) {
  if (type == CUDA_R_64F) return static_cast<const double*>(p)[i];
  if (type == CUDA_R_32F) return static_cast<const float*>(p)[i];
  return static_cast<float>(static_cast<const jevons::bf16*>(p)[i]);
}

inline void store_element(void* p, cudaDataType_t type, std::size_t i, double value) {
  if (type == CUDA_R_64F) {
    static_cast<double*>(p)[i] = value;
  } else if (type == CUDA_R_32F) {
    static_cast<float*>(p)[i] = static_cast<float>(value);
  } else {
    static_cast<jevons::bf16*>(p)[i] = jevons::bf16(static_cast<float>(value));
  }
}

}  // namespace emulation
