// What each loss is multiplied by before its gradient is taken.
#pragma once

namespace jevons {

struct LossScales {
  double token = 1;  // of the cross-entropy of every target token: 1 / target tokens of the global batch
};

}  // namespace jevons
