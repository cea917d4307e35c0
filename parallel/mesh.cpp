#include "parallel/mesh.h"

#include <fmt/core.h>

#include <utility>
#include <vector>

#include "kernels/core/error.h"

namespace jevons {

std::string Layout::to_string() const {
  const std::string stages = pp == 1 ? "" : fmt::format("pp {}, ", pp);
  const std::string context = cp == 1 ? "" : fmt::format("cp {}, ", cp);
  return fmt::format("{}dp {}, {}tp {}, ep {}", stages, dp, context, tp, ep);
}

namespace {

void check_axis(const char* name, int value) {
  if (value < 1) fail(ExitCode::kUsage, "parallel.{}: must be at least 1, is {}", name, value);
}

void check_world(const Layout& layout, int world_size) {
  const int needed = layout.world();
  if (needed == world_size) return;
  std::string advice;
  if (world_size % layout.tp == 0) advice = fmt::format("dp {}", world_size / layout.tp);
  if (world_size % layout.dp == 0) {
    advice += fmt::format("{}tp {}", advice.empty() ? "" : " or ", world_size / layout.dp);
  }
  advice = advice.empty() ? fmt::format("start {} workers", needed)
                          : fmt::format("{} would fit, or start {} workers", advice, needed);
  fail(ExitCode::kUsage, "parallel: dp*tp = {}*{} = {} but {} worker{} started; {}", layout.dp, layout.tp,
       needed, world_size, world_size == 1 ? " was" : "s were", advice);
}

// "1, 2, 4": the values in [1, limit] that divide every number of `multiples`.
std::string divisors(std::int64_t limit, const std::vector<std::int64_t>& multiples) {
  std::string list;
  for (std::int64_t value = 1; value <= limit; ++value) {
    bool divides = true;
    for (std::int64_t multiple : multiples) divides = divides && multiple % value == 0;
    if (divides) list += fmt::format("{}{}", list.empty() ? "" : ", ", value);
  }
  return list;
}

void check_experts(const Layout& layout, std::int64_t num_experts) {
  const std::int64_t ranks = std::int64_t{layout.dp} * layout.cp * layout.tp;
  const std::int64_t experts = num_experts > 0 ? num_experts : ranks;
  if (ranks % layout.ep != 0) {
    fail(ExitCode::kUsage, "parallel.ep: {} does not divide dp*tp = {}; ep {} would fit", layout.ep, ranks,
         divisors(ranks, {ranks, experts}));
  }
  if (experts % layout.ep != 0) {
    fail(ExitCode::kUsage, "parallel.ep: {} does not divide model.moe.num_experts = {}; ep {} would fit",
         layout.ep, experts, divisors(ranks, {ranks, experts}));
  }
}

void check_tensor_parallel(const Layout& layout, const LayoutLimits& limits) {
  const std::pair<const char*, std::int64_t> split[] = {
      {"num_heads", limits.num_heads},
      {"num_kv_heads", limits.num_kv_heads},
      {"ffn_hidden_size", limits.ffn_hidden_size},
      {"vocab_size", limits.vocab_size},
      {"seq_len", limits.seq_len},
  };
  std::vector<std::int64_t> sizes;
  for (const auto& [name, size] : split) sizes.push_back(size);
  for (const auto& [name, size] : split) {
    if (size % layout.tp == 0) continue;
    fail(ExitCode::kUsage, "parallel.tp: {} does not divide model.{} = {}; tp {} would fit", layout.tp, name,
         size, divisors(layout.tp, sizes));
  }
}

}  // namespace

void validate_layout(const Layout& layout, int world_size, const LayoutLimits& limits) {
  check_axis("dp", layout.dp);
  check_axis("tp", layout.tp);
  check_axis("ep", layout.ep);
  check_axis("pp", layout.pp);
  check_axis("cp", layout.cp);
  if (layout.pp > 1)
    fail(ExitCode::kUsage, "parallel.pp: pipeline parallelism is not in this version; use pp 1");
  if (layout.cp > 1)
    fail(ExitCode::kUsage, "parallel.cp: context parallelism is not in this version; use cp 1");
  check_world(layout, world_size);
  check_experts(layout, limits.num_experts);
  check_tensor_parallel(layout, limits);
}

namespace {

// `count` ranks from `first` on, `stride` apart.
std::vector<int> every(int first, int stride, int count) {
  std::vector<int> ranks;
  for (int i = 0; i < count; ++i) ranks.push_back(first + i * stride);
  return ranks;
}

}  // namespace

Mesh::Mesh(Communicator& world, const Layout& layout, const LayoutLimits& limits)
    : layout_(layout), world_(world) {
  validate_layout(layout, world.size(), limits);
  const int stage_ranks = layout.dp * layout.cp * layout.tp;
  const int in_stage = world.rank() % stage_ranks;
  const int stage = world.rank() - in_stage;  // first rank of this pipeline stage
  // rank = ((pp * dp_n + dp) * cp_n + cp) * tp_n + tp, and over the same ranks of a stage (edp * ep_n + ep).
  dp_rank_ = in_stage / (layout.cp * layout.tp);
  stage_ = world.split(every(stage, 1, stage_ranks), "stage");
  replicas_ = world.split(every(stage + in_stage % layout.tp, layout.tp, layout.dp * layout.cp), "replicas");
  tp_ = world.split(every(world.rank() - in_stage % layout.tp, 1, layout.tp), "tp");
  ep_ = world.split(every(world.rank() - in_stage % layout.ep, 1, layout.ep), "ep");
  edp_ = world.split(every(stage + in_stage % layout.ep, layout.ep, layout.edp()), "edp");
  pp_ = world.split(every(in_stage, stage_ranks, layout.pp), "pp");
}

std::array<Communicator*, 7> Mesh::groups() {
  return {&world_, stage_.get(), replicas_.get(), tp_.get(), ep_.get(), edp_.get(), pp_.get()};
}

void Mesh::set_listener(WorkListener* listener) {
  for (Communicator* group : groups()) group->set_listener(listener);
}

}  // namespace jevons
