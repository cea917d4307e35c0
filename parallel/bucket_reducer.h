// Gradients of all passes add up in the store and are summed over ranks bucket by bucket, each as soon as the
// last backward pass has completed it.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "parallel/grad_reducer.h"

namespace jevons {

class BucketReducer final : public GradReducer {
 public:
  BucketReducer(ParamStore& store, int zero_stage);

  void begin(std::int64_t sequences) override;
  // Starts the groups that end with `unit` on the way from the last unit to the first.
  void start_unit(const Context& ctx, std::int64_t unit) override;
  void end_pass(const Context& ctx, std::int64_t pass, UnitRange units) override;
  // Starts all groups that were not; waits for all.
  double global_norm(const Context& ctx) const override;
  std::size_t bytes() const override { return 0; }

 protected:
  void finish_groups(const Context& ctx) override;

 private:
  void start_group(std::size_t group);

  std::vector<std::optional<Work>> under_way_;  // of each group
};

}  // namespace jevons
