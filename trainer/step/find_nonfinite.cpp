#include "trainer/step/find_nonfinite.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "kernels/core/error.h"
#include "kernels/elementwise.h"
#include "kernels/host_view.h"
#include "parallel/agree.h"
#include "parallel/host_exchange.h"

namespace jevons {
namespace {

// Something that is not finite, on this rank; `order` grows in the order of computing.
struct Finding {
  std::int64_t order = 0;
  std::string what;
};

// Gradients come after every forward pass, their sums over ranks after all gradients.
constexpr std::int64_t kGradients = std::int64_t{1} << 40, kSums = std::int64_t{1} << 41;
constexpr std::int64_t kStage = std::int64_t{1} << 24;  // more than a stage has parameters

std::optional<Finding> look(const Context& ctx, Tensor tensor, std::int64_t order, const std::string& name) {
  if (!tensor.defined() || tensor.numel() == 0) return std::nullopt;
  const std::int64_t bad = count_nonfinite(ctx, tensor);
  if (bad == 0) return std::nullopt;
  return Finding{order, fmt::format("{}, {} of {} values", name, bad, tensor.numel())};
}

// Places of `order` that a forward pass of the whole model has.
std::int64_t places_of(const ModelConfig& config) {
  return 2 * config.num_layers + 2 + 4 * config.mtp.depth;
}

// Of a block: its router's logits, as `order`.
std::optional<Finding> look_at_router(const Context& ctx, const Block::Saved& block, std::int64_t order,
                                      std::int64_t layer) {
  const auto* moe = std::get_if<Moe::Saved>(&block.ffn);
  if (moe == nullptr) return std::nullopt;
  return look(ctx, moe->routing.logits, order, fmt::format("router logits of layer {}", layer));
}

// In the depths of multi-token prediction, which follow the places up to `order`. losses: of each.
std::optional<Finding> look_at_mtp(const Context& ctx, const Stage& stage, const Stage::Saved& saved,
                                   std::int64_t order, std::span<const double> losses) {
  for (std::size_t k = 0; k < saved.mtp.size(); ++k, order += 4) {
    const MtpDepth::Saved& depth = saved.mtp[k].depth;
    const std::int64_t layer = stage.config().num_layers + static_cast<std::int64_t>(k);
    const std::string input = fmt::format("input of layer {} (multi-token prediction)", layer);
    if (auto found = look(ctx, depth.block.attn_norm.x, order, input)) return found;
    if (auto found = look_at_router(ctx, depth.block, order + 1, layer)) return found;
    if (auto found = look(ctx, depth.norm.x, order + 2, fmt::format("output of layer {}", layer)))
      return found;
    if (!std::isfinite(losses[k]))
      return Finding{order + 3, fmt::format("logits or loss of multi-token prediction, depth {}", k)};
  }
  return std::nullopt;
}

// The first finding in a stage's forward pass. A block keeps its input and its routing whatever it
// recomputes.
std::optional<Finding> look_at_forward(const Context& ctx, const Stage& stage, const Stage::Saved& saved,
                                       std::span<const double> losses) {
  const std::int64_t first = stage.range().first_layer, layers = stage.config().num_layers;
  for (std::int64_t i = first; i < stage.range().end_layer; ++i) {
    const Block::Saved& block = saved.blocks[static_cast<std::size_t>(i - first)];
    const std::string input = i == 0 ? "embedding" : fmt::format("output of layer {}", i - 1);
    if (auto found = look(ctx, block.attn_norm.x, 2 * i, input)) return found;
    if (auto found = look_at_router(ctx, block, 2 * i + 1, i)) return found;
  }
  if (!stage.range().head) return std::nullopt;
  const std::string last = fmt::format("output of layer {}", layers - 1);
  if (auto found = look(ctx, saved.head.norm.x, 2 * layers, last)) return found;
  if (!std::isfinite(losses[0])) return Finding{2 * layers + 1, "logits or loss"};
  return look_at_mtp(ctx, stage, saved, 2 * layers + 2, losses.subspan(1));
}

// Of the pipeline stage that declared a unit.
std::int64_t stage_number(Worker& worker, std::int64_t unit) {
  for (const PipelineRank::Place& place : worker.pipeline().stages) {
    const UnitRange units = place.stage->units();
    if (unit >= units.first && unit <= units.last) return place.number;
  }
  return 0;
}

// Backward goes from the last parameter to the first, so the last one is where it began. range_of: the part
// of a group's flat buffer that may be looked at.
std::optional<Finding> look_at_gradients(Worker& worker, std::int64_t order,
                                         const std::function<FlatRange(std::size_t group)>& range_of) {
  const ParamStore& store = worker.store();
  std::vector<ParamPiece> pieces;
  for (std::size_t g = 0; g < store.groups().size(); ++g) {
    const std::vector<ParamPiece> of_group = store.pieces(g, range_of(g));
    pieces.insert(pieces.end(), of_group.begin(), of_group.end());
  }
  std::ranges::sort(pieces, std::ranges::greater{}, &ParamPiece::id);
  for (const ParamPiece& piece : pieces) {
    const std::int64_t stage = stage_number(worker, store.params()[piece.id].unit);
    const std::int64_t place = order - stage * kStage - static_cast<std::int64_t>(piece.id);
    for (const Tensor& grads : worker.store().groups()[store.group_of(piece.id)].source_grads) {
      const std::string name = "gradient of " + store.params()[piece.id].spec.name;
      if (auto found = look(worker.ctx(), grads.slice(piece.begin, piece.end), place, name)) return found;
    }
  }
  return std::nullopt;
}

// The step once more, up to the sums over ranks.
std::optional<Finding> replay(Worker& worker, const StepInputs& inputs) {
  std::optional<Finding> first;
  worker.store().zero_grads(worker.ctx());
  const std::int64_t count = num_figures(worker.config().model);
  const Buffer memory(worker.ctx().device, static_cast<std::size_t>(count) * sizeof(double));
  const Tensor figures = memory.view(0, {count}, DType::kF64);
  const auto look_after = [&](const Stage& stage, std::int64_t i, const Stage::Saved& saved) {
    if (first) return;
    const Tensor view = host_view(worker.ctx(), figures);
    const std::vector<double> losses(view.ptr<double>(), view.ptr<double>() + count);
    first = look_at_forward(worker.ctx(), stage, saved, losses);
    if (!first) return;
    first->order += i * places_of(stage.config());
    first->what += fmt::format(", micro-batch {}", i);
  };
  const auto fresh = [&](std::int64_t) {
    zero_async(worker.ctx().stream, figures);
    return figures;
  };
  forward_backward(worker.ctx(), worker.pipeline(), inputs.program, inputs.scales,
                   {.read = inputs.read, .figures = fresh, .after_forward = look_after});
  if (first) return first;
  return look_at_gradients(worker, kGradients, [&](std::size_t group) {
    return FlatRange{0, worker.store().groups()[group].numel};
  });
}

// The earliest finding of all ranks, with its rank; nothing if none has any. Collective.
std::string first_of(Communicator& world, const std::optional<Finding>& mine) {
  const std::int64_t ranks = world.size();
  constexpr std::int64_t kNone = std::numeric_limits<std::int64_t>::max();
  const auto first = all_reduce(world, mine ? mine->order * ranks + world.rank() : kNone, ReduceOp::kMin);
  if (first == kNone) return "";
  const int rank = static_cast<int>(first % ranks);
  return broadcast_text(world, rank == world.rank() ? fmt::format("rank {}: {}", rank, mine->what) : "",
                        rank);
}

}  // namespace

std::string find_nonfinite(Worker& worker, const StepInputs& inputs) {
  Communicator& world = worker.mesh().world();
  const std::string summed = first_of(world, look_at_gradients(worker, kSums, [&](std::size_t group) {
                                        return worker.reducer().update_range(group);
                                      }));
  const std::string origin = first_of(world, replay(worker, inputs));
  if (!origin.empty()) return origin;
  if (!summed.empty()) return "only the sum over all ranks overflows, " + summed;
  return "computed once more, the step is finite: look at the memory and the devices of the ranks";
}

void check_finite(Worker& worker, const std::vector<TensorBox>& boxes) {
  agree(worker.mesh().world(), [&] {
    for (const TensorBox& box : boxes) {
      if (const auto found = look(worker.ctx(), box.local, 0, box.name)) {
        fail(ExitCode::kFailure, "{} are not finite; the checkpoint is not written", found->what);
      }
    }
  });
}

}  // namespace jevons
