// One tiny model, one seed, one global batch of eight different sequences on many layouts: loss, every
// gradient, the gradient norm and the weights after one plain SGD step with learning rate 1, against one
// worker. (Adam would hide a constant factor on the gradients.)
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "parallel/bucket_reducer.h"
#include "tests/support/compare.h"
#include "tests/support/tiny_model.h"

namespace jevons::test {

inline constexpr std::int64_t kSequences = 8;
// Every unit's gradients are in buckets of their own.
inline constexpr std::int64_t kSmallBucket = 1;

struct GridModel {
  ModelConfig config;
  DType dtype = DType::kF64;
  std::function<void(Model&)> prepare = [](Model&) {};  // once the weights are placed
};

struct GridPoint {
  Layout layout;
  int zero_stage = 0;
  std::int64_t micro_batch = 1;  // sequences
  bool documents = false;        // several in each sequence

  std::string to_string() const;
};

// Of the global batch: the mean loss, with half of that of each depth of multi-token prediction, and how
// often the first depth chose what the model did.
struct PassFigures {
  double loss = 0, accepted = 0;
};

struct StepResult {
  PassFigures figures;
  double norm = 0;
  NamedValues gradients, weights;
  std::vector<double> state;  // selection biases after the step
};

// Adds to the gradients. `reducer` starts units in the last pass.
PassFigures forward_backward(TestBed& bed, Model& model, const GridPoint& point,
                             GradReducer* reducer = nullptr);

StepResult one_worker(const GridModel& model, std::int64_t micro_batch, bool documents = false);
// Every point on as many ranks as its layout has, against `want`, relative to the largest element of each
// tensor: f64 to 1e-12; f32 to 1e-6, where only the order of the sums over tokens changes, and to 2e-5 with
// tp or cp, or where a product's rows depend on one another: there that of the sums inside a layer does too,
// and the layers above amplify it.
void check_points(const GridModel& model, const std::vector<GridPoint>& points, const StepResult& want);

}  // namespace jevons::test
