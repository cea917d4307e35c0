// Communication as layers: each region's backward is its adjoint (Hewett and Grady, arXiv:2006.03108).
// Between blocks every rank holds disjoint tokens (sequence parallelism, arXiv:2205.05198), so these two are
// all that tensor parallelism needs. Over a group of one they return their input.
#pragma once

#include "kernels/core/context.h"
#include "parallel/communicator.h"

namespace jevons {

// S -> R: rows of all ranks, by rank. Backward sums the partial gradients and keeps this rank's rows.
class Gather {
 public:
  explicit Gather(Communicator& group) : group_(&group) {}
  Tensor forward(const Context&, Tensor x_shard, Arena& out) const;      // (T/n, D) -> (T, D)
  Tensor backward(const Context&, Tensor dy_partial, Arena& out) const;  // (T, D) -> (T/n, D)
  // Whether forward returns its input itself, which then must lie where its result is wanted.
  bool returns_input() const { return group_->size() == 1; }

 private:
  Communicator* group_;
};

// P -> S: sum over ranks of partial rows; this rank keeps its part. Backward gathers.
class ReduceScatter {
 public:
  explicit ReduceScatter(Communicator& group) : group_(&group) {}
  Tensor forward(const Context&, Tensor x_partial, Arena& out) const;  // (T, D) -> (T/n, D)
  Tensor backward(const Context&, Tensor dy_shard, Arena& out) const;  // (T/n, D) -> (T, D)
  bool returns_input() const { return group_->size() == 1; }

 private:
  Communicator* group_;
};

}  // namespace jevons
