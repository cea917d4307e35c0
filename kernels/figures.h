// Figures that ops leave on the device in the course of a step, for the host to read at its end: a row of
// numbers for each micro-batch. Reading each at once would make the host wait for the device each time.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/core/context.h"

namespace jevons {

class Figures {
 public:
  Figures(Device device, DType dtype, std::int64_t per_row)
      : device_(device), dtype_(dtype), per_row_(per_row) {}

  // A new row (per_row) of zeros.
  Tensor add_row(const Context& ctx);
  // Starts the copy of all rows to the host; they may be read once ctx.stream has passed it.
  void fetch(const Context& ctx) const;
  // None on kMeta.
  std::int64_t rows() const { return device_ == Device::kMeta ? 0 : rows_; }
  // (per_row) on the host.
  Tensor row(std::int64_t index) const;
  // Forgets the rows; their memory is kept.
  void clear() { rows_ = 0; }

 private:
  struct Chunk {
    Buffer here, host;
  };
  Tensor row_of(const Buffer& chunk, std::int64_t index, std::int64_t count) const;

  Device device_;
  DType dtype_;
  std::int64_t per_row_;
  std::int64_t rows_ = 0;
  std::vector<Chunk> chunks_;
};

}  // namespace jevons
