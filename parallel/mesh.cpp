#include "parallel/mesh.h"

#include <fmt/core.h>

#include <vector>

#include "kernels/core/error.h"

namespace jevons {

std::string Layout::to_string() const {
  const std::string stages = pp == 1 ? "" : fmt::format("pp {}, ", pp);
  const std::string context = cp == 1 ? "" : fmt::format("cp {}, ", cp);
  return fmt::format("{}dp {}, {}tp {}, ep {}", stages, dp, context, tp, ep);
}

namespace {

// `count` ranks from `first` on, `stride` apart.
std::vector<int> every(int first, int stride, int count) {
  std::vector<int> ranks;
  for (int i = 0; i < count; ++i) ranks.push_back(first + i * stride);
  return ranks;
}

}  // namespace

Mesh::Mesh(Communicator& world, const Layout& layout) : layout_(layout), world_(world) {
  ENSURE(layout.world() == world.size(), "a layout of {} ranks ({}) over {}", layout.world(),
         layout.to_string(), world.size());
  ENSURE(layout.ep >= 1 && layout.dp * layout.cp * layout.tp % layout.ep == 0, "ep does not fold over {}",
         layout.to_string());
  const int stage_ranks = layout.dp * layout.cp * layout.tp;
  const int in_stage = world.rank() % stage_ranks;
  const int stage = world.rank() - in_stage;  // first rank of this pipeline stage
  // rank = ((pp * dp_n + dp) * cp_n + cp) * tp_n + tp, and over the same ranks of a stage (edp * ep_n + ep).
  dp_rank_ = in_stage / (layout.cp * layout.tp);
  stage_ = world.split(every(stage, 1, stage_ranks), "stage");
  replicas_ = world.split(every(stage + in_stage % layout.tp, layout.tp, layout.dp * layout.cp), "replicas");
  cp_ = world.split(
      every(world.rank() - in_stage % (layout.cp * layout.tp) + in_stage % layout.tp, layout.tp, layout.cp),
      "cp");
  tp_ = world.split(every(world.rank() - in_stage % layout.tp, 1, layout.tp), "tp");
  ep_ = world.split(every(world.rank() - in_stage % layout.ep, 1, layout.ep), "ep");
  edp_ = world.split(every(stage + in_stage % layout.ep, layout.ep, layout.edp()), "edp");
  pp_ = world.split(every(in_stage, stage_ranks, layout.pp), "pp");
}

std::array<Communicator*, 8> Mesh::groups() {
  return {&world_, stage_.get(), replicas_.get(), cp_.get(), tp_.get(), ep_.get(), edp_.get(), pp_.get()};
}

void Mesh::set_listener(WorkListener* listener) {
  for (Communicator* group : groups()) group->set_listener(listener);
}

}  // namespace jevons
