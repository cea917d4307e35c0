// A layer over tp ranks against the same layer on one worker: outputs, input gradients and every weight
// gradient.
#pragma once

#include <functional>
#include <vector>

#include "parallel/meta/meta_communicator.h"
#include "tests/support/compare.h"
#include "tests/support/ranks.h"

namespace jevons::test {

struct ForwardBackward {
  std::vector<double> y, dx;
};

// Builds a layer in `bed`, calls bed.place_weights(), runs forward on x (S, D) and backward on dy (S, D).
using LayerBody = std::function<ForwardBackward(TestBed& bed, Tensor x, Tensor dy)>;

inline std::vector<double> rows_of(const std::vector<double>& all, std::int64_t rank, std::int64_t ranks) {
  const auto part = static_cast<std::int64_t>(all.size()) / ranks;
  return {all.begin() + rank * part, all.begin() + (rank + 1) * part};
}

// x and dy are (rows, cols) and split by rows; f64.
inline void check_tensor_parallel(std::int64_t rows, std::int64_t cols, std::vector<int> sizes,
                                  const LayerBody& body, double bound = 1e-12) {
  ForwardBackward one;
  NamedValues gradients;
  {
    MetaCommunicator world(0, 1);
    TestBed bed(world);
    one = body(bed, bed.random({rows, cols}, "x"), bed.random({rows, cols}, "dy"));
    gradients = gradients_of(bed.store);
  }
  for (int tp : sizes) {
    run_ranks(tp, [&](Communicator& world) {
      TestBed bed(world, DType::kF64, {.tp = tp});
      const std::int64_t part = rows / tp, begin = world.rank() * part;
      const ForwardBackward got = body(bed, bed.random({rows, cols}, "x").slice(begin, begin + part),
                                       bed.random({rows, cols}, "dy").slice(begin, begin + part));
      expect_close("y", got.y, rows_of(one.y, world.rank(), tp), bound);
      expect_close("dx", got.dx, rows_of(one.dx, world.rank(), tp), bound);
      expect_close(summed_gradients(bed.store, world), gradients, bound);
    });
  }
}

}  // namespace jevons::test
