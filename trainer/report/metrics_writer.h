// metrics.jsonl: one JSON object per logged step, validation or checkpoint, for programs. It holds the run as
// it stands: a resumed run first takes out the lines of steps that it will repeat, and moves those that it
// has left behind to metrics.left-behind.jsonl, from where they come back if the run returns to them. Keys
// and units: docs/metrics.md.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "trainer/io/file.h"
#include "trainer/io/lineage.h"
#include "trainer/report/step_metrics.h"

namespace jevons {

class MetricsWriter {
 public:
  // Opens or creates the file `path`, for a run that goes on from `start_step` of `lineage`. What is moved or
  // removed, also lines that are not JSON (torn by a kill), is logged. Throws Error(kFailure) naming the
  // file.
  MetricsWriter(const std::string& path, std::int64_t start_step, const Lineage& lineage = {});
  // The first step of which earlier records do not hold: start_step + 1, or before if lines were moved.
  std::int64_t first_new_step() const { return first_new_step_; }
  void write(const StepMetrics& metrics);
  void write(const ValidationMetrics& metrics);
  void write(const CheckpointMetrics& metrics);

 private:
  void append(nlohmann::ordered_json& line);

  std::int64_t first_new_step_;
  std::uint64_t branch_;
  File file_;
};

}  // namespace jevons
