// The factors that make the sum over all ranks and micro-batches of a step a mean over the global batch.
#pragma once

#include <vector>

namespace jevons {

// What each loss is multiplied by before its gradient is taken. tp ranks hold parts of the same micro-batch
// and sequences, which count once.
struct LossScales {
  double token = 1;  // of the cross-entropy of every target token: 1 / target tokens of the global batch
  double micro_batch = 1;  // of a balance loss over a micro-batch: its share of the global batch
  double sequence = 1;     // of a balance loss over a sequence: 1 / sequences of the global batch
  double position = 1;     // of a loss per row: 1 / rows of the global batch
  // Of each depth of multi-token prediction, as `token`: weight / (depths * its targets of the global batch).
  std::vector<double> mtp = {};
};

}  // namespace jevons
