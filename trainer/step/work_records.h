// What a step is made of: its ops and collectives, equal calls counted.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "kernels/core/work_meter.h"

namespace jevons {

// Calls that are equal in all of this.
struct WorkRecord {
  WorkKind kind = WorkKind::kRow;
  std::string op, dtype, group;  // as in WorkCall
  int ranks = 1;
  std::vector<std::pair<std::string, std::int64_t>> sizes;
  double flops = 0, bytes = 0;  // of one call

  auto operator<=>(const WorkRecord&) const = default;
};

class WorkRecords final : public WorkListener {
 public:
  void on(const WorkCall& call) override;
  const WorkMeter& totals() const { return totals_; }
  // How often each came.
  const std::map<WorkRecord, std::int64_t>& calls() const { return calls_; }

 private:
  WorkMeter totals_;
  std::map<WorkRecord, std::int64_t> calls_;
};

}  // namespace jevons
