// The optimizer of one worker: master weights and the rule's state for the flat ranges that GradReducer gives
// this rank. With ZeRO-1 (arXiv:1910.02054) those are shards; the update itself is the same.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kernels/core/context.h"
#include "parallel/grad_reducer.h"
#include "parallel/param_store.h"
#include "parallel/whole_matrices.h"
#include "trainer/optim/update_rule.h"

namespace jevons {

class Optimizer {
 public:
  // A stretch of weights that are updated alike, as long as possible, of one ParamGroup and within this
  // rank's range of it. Copies are in none: what their owners become, they become.
  struct Part {
    std::size_t group = 0;
    FlatRange range;
    ParamId first = 0;  // the weight that it begins in
    const UpdateRule* rule = nullptr;
    bool decay = false;
    // Over `range`, accumulator dtype; the store's own weights where those have it.
    Tensor master;
    std::vector<Tensor> state;          // of the rule
    std::vector<std::string> prefixes;  // "optim.m.", ...: with a weight's name, that state's in a checkpoint
  };

  // The store must be allocated; it must outlive this. `seed` is that of the run.
  Optimizer(ParamStore& store, const GradReducer& reducer, const OptimConfig& config, std::uint64_t seed);

  // Takes the weights of the store as the starting point. Call after they were initialised.
  void adopt_weights(const Context& ctx);
  // Writes the master weights back into this rank's range of the store's weights, after master was loaded.
  void publish_weights(const Context& ctx) const;

  // One update of this rank's ranges from the summed gradients, which it sets to zero.
  void step(const Context& ctx, const UpdateStep& step);

  // Multiplies what of this rank's part of a weight is in its range, row by row: master and working weight.
  void scale_rows(const Context& ctx, ParamId weight, std::span<const double> factors);

  // By group and place; together all weights of this rank's ranges.
  std::span<const Part> parts() const { return parts_; }
  std::size_t bytes() const;  // of the state and of master weights that are not the store's own

 private:
  void divide(std::size_t group, FlatRange range);
  UpdateRange range_of(const Part& part) const;
  void orthogonalise_matrices(const Context& ctx) const;
  Tensor make(std::int64_t numel, DType dtype);
  Tensor weights_of(const Part& part) const;

  ParamStore& store_;
  OptimConfig config_;
  UpdateRules rules_;
  std::vector<Part> parts_;
  std::optional<WholeMatrices> matrices_;  // of rules_.matrices
  std::vector<Buffer> buffers_;
};

}  // namespace jevons
