// Pipeline schedules for tests.
#pragma once

#include <array>
#include <vector>

#include "kernels/core/error.h"
#include "parallel/pipeline/schedule.h"

namespace jevons::test {

inline constexpr std::array kKinds = {PipelineKind::k1F1B, PipelineKind::kInterleaved, PipelineKind::kZbH1,
                                      PipelineKind::kZbV, PipelineKind::kDualPipeV};

// Two stages on a rank where that is free.
inline PipelineOptions options_of(PipelineKind kind, int ranks, std::int64_t micro_batches) {
  return {kind, ranks, micro_batches, virtual_stages_of(kind).value_or(2)};
}

// Of every number of ranks and micro-batches, those that a kind takes.
inline std::vector<PipelineSchedule> accepted(PipelineOptions options, const std::vector<int>& ranks,
                                              const std::vector<std::int64_t>& micro_batches) {
  std::vector<PipelineSchedule> schedules;
  for (const int p : ranks) {
    for (const std::int64_t m : micro_batches) {
      options.ranks = p, options.micro_batches = m;
      try {
        schedules.push_back(generate_schedule(options));
      } catch (const Error&) {
      }
    }
  }
  return schedules;
}

inline std::vector<std::int64_t> from_to(std::int64_t first, std::int64_t last) {
  std::vector<std::int64_t> numbers;
  for (std::int64_t n = first; n <= last; ++n) numbers.push_back(n);
  return numbers;
}

}  // namespace jevons::test
