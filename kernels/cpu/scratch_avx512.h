// Memory of one thread for the AVX-512 kernels. Internal linkage for the reason given in pack_avx512.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>

namespace jevons::cpu {
namespace {

// Grow-only memory of one thread.
class Scratch {
 public:
  Scratch() = default;
  ~Scratch() { std::free(data_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  float* floats(std::int64_t count) {
    const std::size_t bytes = (static_cast<std::size_t>(count) * sizeof(float) + 4095) / 4096 * 4096;
    if (bytes > bytes_) {
      std::free(data_);
      data_ = std::aligned_alloc(4096, bytes);
      bytes_ = data_ != nullptr ? bytes : 0;
      if (data_ == nullptr) std::abort();
    }
    return static_cast<float*>(data_);
  }

 private:
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace
}  // namespace jevons::cpu
