// metrics.jsonl: one JSON object per logged step, validation or checkpoint, for programs. A resumed run first
// takes out the lines of steps that it will repeat, so that every step appears once. Keys and units:
// docs/metrics.md.
#pragma once

#include <cstdint>
#include <string>

#include "trainer/io/file.h"
#include "trainer/report/step_metrics.h"

namespace jevons {

class MetricsWriter {
 public:
  // Opens or creates the file. Lines of steps above `start_step`, and lines that are not JSON (torn by a
  // kill), are removed; how many is logged. Throws Error(kFailure) naming the file.
  MetricsWriter(const std::string& path, std::int64_t start_step);
  void write(const StepMetrics& metrics);
  void write(const ValidationMetrics& metrics);
  void write(const CheckpointMetrics& metrics);

 private:
  File file_;
};

}  // namespace jevons
