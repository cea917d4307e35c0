// Context parallelism's one exchange (as of Llama 3, arXiv:2407.21783, section 3.3): what attention needs of
// the other positions of its sequences, from all cp ranks, in the order of the positions. Its backward is the
// adjoint (region.h). Legend: T rows of this rank, n cp ranks, C columns.
#pragma once

#include "parallel/communicator.h"
#include "trainer/model/sequences.h"

namespace jevons {

class ContextGather {
 public:
  explicit ContextGather(Communicator& cp) : cp_(&cp) {}
  // x (T, C) -> y (n T, C), given: the rows of whole sequences.
  void forward(const Context& ctx, const Sequences& sequences, Tensor x, Tensor y) const;
  // dy (n T, C): this rank's part of the gradient of y -> dx (T, C), given: the sum over ranks.
  void backward(const Context& ctx, const Sequences& sequences, Tensor dy, Tensor dx) const;

  int ranks() const { return cp_->size(); }
  // Of one rank x is y, and there is nothing to do.
  bool is_needed() const { return cp_->size() > 1; }

 private:
  Communicator* cp_;
};

}  // namespace jevons
