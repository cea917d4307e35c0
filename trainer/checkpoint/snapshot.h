// The boxes of one rank as they are at one moment, checked, in the order of their file and in host memory:
// what a writer needs while training changes the originals.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/core/memory.h"
#include "kernels/core/stream.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/io/box.h"

namespace jevons {

// A box to be written, under its key.
struct Piece {
  std::string name;  // of the tensor
  Shape global_shape;
  Box box;
  std::string key;
  Tensor host;  // the box's bytes
};

// Checked, widest elements first, so that each tensor is aligned in the file; then by key. Empty boxes are
// left out. Throws Error(kFailure) for a box that cannot be stored.
std::vector<Piece> pieces_of(const std::vector<TensorBox>& boxes);

// kCopied: the originals may change at once. kLent: those in host memory are not copied and must stay as they
// are until they are written.
enum class Originals : std::uint8_t { kCopied, kLent };

class Snapshot {
 public:
  // Replaces what was there; empty boxes are left out. `stream`: of the work that made tensors on kCuda,
  // which alone need one. Throws Error(kFailure) for a box that cannot be stored; not collective.
  void take(const std::vector<TensorBox>& boxes, const Stream* stream, Originals originals);

  const std::vector<Piece>& pieces() const { return pieces_; }

 private:
  Buffer memory_;  // of all copies; kept for the next snapshot
  std::vector<Piece> pieces_;
};

}  // namespace jevons
