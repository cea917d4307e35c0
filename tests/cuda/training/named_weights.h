// Random weights for any model on one worker: each a function of its name.
#pragma once

#include <string>
#include <vector>

#include "kernels/core/rng.h"
#include "tests/support/catch.h"
#include "trainer/io/tensor_source.h"

namespace jevons::test {

class NamedWeights final : public TensorSource {
 public:
  const std::vector<TensorEntry>& tensors() const override { return none_; }
  bool has(const std::string&) const override { return true; }
  void read(const std::vector<TensorBox>& boxes) const override {
    for (const TensorBox& box : boxes) {
      REQUIRE(box.local.shape == box.global_shape);
      const bool norm = box.name.ends_with("norm");
      const RandomStream random(7, box.name);
      for (std::int64_t i = 0; i < box.local.numel(); ++i) {
        const double noise = 0.2 * random.normal(static_cast<std::uint64_t>(i));
        box.local.ptr<float>()[i] = static_cast<float>(norm ? 1 + noise : noise);
      }
    }
  }

 private:
  std::vector<TensorEntry> none_;
};

}  // namespace jevons::test
