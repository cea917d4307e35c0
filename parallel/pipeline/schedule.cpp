#include "parallel/pipeline/schedule.h"

#include <fmt/core.h>

#include <array>

#include "kernels/core/error.h"

namespace jevons {
namespace {

constexpr std::array kKinds = {PipelineKind::k1F1B, PipelineKind::kInterleaved, PipelineKind::kZbH1,
                               PipelineKind::kZbV, PipelineKind::kDualPipeV};

}  // namespace

int PipelineShape::rank_of(std::int64_t stage) const {
  ENSURE(stage >= 0 && stage < stages(), "stage {} of {}", stage, stages());
  if (placement == StagePlacement::kLoop) return static_cast<int>(stage % ranks);
  return static_cast<int>(stage < ranks ? stage : 2 * ranks - 1 - stage);
}

std::int64_t PipelineShape::stage_of(int rank, int chunk) const {
  if (placement == StagePlacement::kLoop) return std::int64_t{chunk} * ranks + rank;
  return chunk == 0 ? rank : 2 * ranks - 1 - rank;
}

std::string_view name_of(PipelineKind kind) {
  switch (kind) {
    case PipelineKind::k1F1B:
      return "1f1b";
    case PipelineKind::kInterleaved:
      return "interleaved";
    case PipelineKind::kZbH1:
      return "zb_h1";
    case PipelineKind::kZbV:
      return "zb_v";
    case PipelineKind::kDualPipeV:
      return "dualpipe_v";
  }
  ENSURE(false, "schedule {}", static_cast<int>(kind));
  return {};
}

std::optional<PipelineKind> pipeline_kind(std::string_view name) {
  for (const PipelineKind kind : kKinds)
    if (name_of(kind) == name) return kind;
  return std::nullopt;
}

std::string pipeline_kind_names() {
  std::string names;
  for (const PipelineKind kind : kKinds)
    names += fmt::format("{}{}", names.empty() ? "" : ", ", name_of(kind));
  return names;
}

StagePlacement placement_of(PipelineKind kind) {
  const bool v = kind == PipelineKind::kZbV || kind == PipelineKind::kDualPipeV;
  return v ? StagePlacement::kV : StagePlacement::kLoop;
}

std::optional<int> virtual_stages_of(PipelineKind kind) {
  if (kind == PipelineKind::kInterleaved) return std::nullopt;
  return placement_of(kind) == StagePlacement::kV ? 2 : 1;
}

std::string to_text(const PipelineSchedule& schedule) {
  std::string text;
  for (const std::vector<Action>& actions : schedule.ranks) text += to_text(actions) + '\n';
  return text;
}

}  // namespace jevons
