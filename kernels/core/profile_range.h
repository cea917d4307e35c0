// A stretch of this thread's work, named on the time line of a profiler that reads NVTX (Nsight Systems).
// Ranges nest. Nanoseconds while no profiler listens; nothing in builds without CUDA.
#pragma once

#include <string>

#include "kernels/core/device_runtime.h"

namespace jevons {

class ProfileRange {
 public:
  explicit ProfileRange(const char* name) { cuda::begin_range(name); }
  explicit ProfileRange(const std::string& name) : ProfileRange(name.c_str()) {}
  ~ProfileRange() { cuda::end_range(); }
  ProfileRange(const ProfileRange&) = delete;
  ProfileRange& operator=(const ProfileRange&) = delete;
};

}  // namespace jevons
