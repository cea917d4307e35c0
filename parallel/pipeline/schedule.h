// Pipeline schedules: P ranks with v stages each work through m micro-batches, each rank down a list of
// actions (docs/pipeline.md). Data alone: generated here, or read from a file (schedule_file.h); checked
// (check.h), timed (simulate.h), and given sends and receives (lower.h) before anything runs.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "parallel/pipeline/action.h"

namespace jevons {

enum class StagePlacement : std::uint8_t {
  kLoop,  // stage s on rank s mod P
  kV,     // of 2 P stages: s on rank s, and down again: stage 2P - 1 - r on rank r
};

// The stages of all ranks.
struct PipelineShape {
  int ranks = 1;           // P
  int virtual_stages = 1;  // v, on each rank
  std::int64_t micro_batches = 1;
  StagePlacement placement = StagePlacement::kLoop;

  std::int64_t stages() const { return std::int64_t{ranks} * virtual_stages; }
  int rank_of(std::int64_t stage) const;
  // A rank's chunks number its stages, 0 .. v-1, in the order of the model.
  int chunk_of(std::int64_t stage) const { return static_cast<int>(stage / ranks); }
  std::int64_t stage_of(int rank, int chunk) const;
  bool operator==(const PipelineShape&) const = default;
};

struct PipelineSchedule {
  PipelineShape shape;
  std::vector<std::vector<Action>> ranks;  // the list of each
};

enum class PipelineKind : std::uint8_t {
  k1F1B,         // one forward, one backward; arXiv 2104.04473
  kInterleaved,  // several stages on a rank; the same paper
  kZbH1,         // weight gradients apart, in the bubble; arXiv 2401.10241
  kZbV,          // the same over two stages of a V; arXiv 2405.15362
  kDualPipeV,    // pairs over two stages of a V; arXiv 2412.19437, cut in half
};
std::string_view name_of(PipelineKind kind);  // "1f1b", "interleaved", "zb_h1", "zb_v", "dualpipe_v"
std::optional<PipelineKind> pipeline_kind(std::string_view name);
std::string pipeline_kind_names();  // "1f1b, interleaved, ...", for messages
StagePlacement placement_of(PipelineKind kind);
// v where a kind allows one only: 1, or 2 for a V.
std::optional<int> virtual_stages_of(PipelineKind kind);

// (F | D) in one go, so that the expert exchanges of one micro-batch travel under the products of another.
// DualPipeV has pairs by itself; of the others `interleaved` can have them.
enum class PipelineOverlap : std::uint8_t { kNone, kPairs };

struct PipelineOptions {
  PipelineKind kind = PipelineKind::k1F1B;
  int ranks = 1;
  std::int64_t micro_batches = 1;
  int virtual_stages = 1;
  PipelineOverlap overlap = PipelineOverlap::kNone;
};

// Every kind of action of every stage takes its micro-batches in ascending order, so the order in which a
// stage's gradients are summed does not depend on the schedule. Throws Error(kUsage) naming what does not fit
// and what would.
PipelineSchedule generate_schedule(const PipelineOptions& options);

// Forwards alone, for evaluation; any number of micro-batches.
PipelineSchedule generate_forward_schedule(const PipelineShape& shape);

// One line per rank, each ended by a newline.
std::string to_text(const PipelineSchedule& schedule);

}  // namespace jevons
