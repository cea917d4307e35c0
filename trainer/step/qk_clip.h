// QK-clip (Kimi K2, arXiv:2507.20534, section 2.1): where an attention's logits exceeded a limit in a step,
// the weights of its queries and keys are scaled after the step so that the same logits would not.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/core/context.h"
#include "parallel/mesh.h"
#include "trainer/model/block.h"
#include "trainer/optim/optimizer.h"

namespace jevons {

class QkClip {
 public:
  // Watches the attention of `blocks`, which must outlive this. limit > 0.
  QkClip(std::vector<Block*> blocks, const ParamStore& store, double limit);

  // Forgets what passes so far saw.
  void begin_step(const Context& ctx);
  // The largest of any head since begin_step, over all ranks; 0 if none was positive. Collective.
  double largest(const Context& ctx, Mesh& mesh);
  // After largest, and after the optimizer moved the weights: scales this rank's range of them. On every rank
  // of a stage a head has the same factor, min(1, limit / its largest logit in the global batch).
  void apply(const Context& ctx, Optimizer& optimizer) const;

 private:
  std::vector<Block*> blocks_;  // those that can be watched
  double limit_;
  Buffer memory_;
  Tensor on_device_;             // heads of all blocks, one block after another
  std::vector<double> largest_;  // the same, over the ranks that have these heads
};

}  // namespace jevons
