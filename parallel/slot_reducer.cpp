#include "parallel/slot_reducer.h"

#include <algorithm>
#include <cmath>

#include "kernels/core/error.h"
#include "kernels/elementwise.h"
#include "kernels/exact_squares.h"
#include "parallel/host_exchange.h"

namespace jevons {
namespace {

std::int64_t sources_of(const ParamGroup& group) {
  return std::ssize(group.source_grads);
}

// Weights lie at the same places of a group on every layout, and shards begin at multiples of kSquaresBlock;
// but the experts of a rank change with ep, so a block must also divide every expert's weight.
std::int64_t block_of_squares(const ParamStore& store) {
  std::int64_t block = kSquaresBlock;
  for (const Param& param : store.params()) {
    while (param.spec.expert && param.local_shape.numel() % block != 0) block /= 2;
  }
  return block;
}

}  // namespace

SlotReducer::SlotReducer(ParamStore& store, int zero_stage)
    : GradReducer(store, zero_stage), squares_block_(block_of_squares(store)) {
  const Layout& layout = store.mesh().layout();
  ENSURE(layout.tp == 1 && layout.cp == 1, "slots need tp 1 and cp 1");
  for (const ParamGroup& group : store.groups()) {
    const bool apart = group.sync == SyncGroup::kExpert;
    ENSURE(sources_of(group) == (apart ? store.mesh().ep().size() : 1), "gradients of {} sources",
           sources_of(group));
    sums_.push_back({.here = {store.device(), group.numel, group.grads.dtype},
                     .shard = {store.device(), group.shard_numel(), group.grads.dtype}});
  }
}

void SlotReducer::begin(std::int64_t sequences) {
  const std::int64_t ranks = store().mesh().stage().size();
  ENSURE(sequences > 0 && sequences % ranks == 0, "{} slots on {} ranks", sequences, ranks);
  slots_ = sequences;
  for (Sums& sums : sums_) sums.here.clear(), sums.shard.clear();
}

void SlotReducer::start_unit(const Context&, std::int64_t) {}

// Source s of rank r of a group's communicator is rank r * sources + s of all, and ranks hold consecutive
// slots.
void SlotReducer::end_pass(const Context& ctx, std::int64_t pass, UnitRange units) {
  const std::int64_t per_rank = slots_ / store().mesh().stage().size();
  for (std::size_t g = 0; g < sums_.size(); ++g) {
    const ParamGroup& group = store().groups()[g];
    if (group.first_unit < units.first || group.first_unit > units.last) continue;
    for (std::int64_t s = 0; s < sources_of(group); ++s) {
      const std::int64_t rank = group.comm->rank() * sources_of(group) + s;
      const Tensor grads = group.source_grads[static_cast<std::size_t>(s)];
      sums_[g].here.put(ctx, slots_, {.level = 0, .index = rank * per_rank + pass}, grads);
      fill_zero(ctx, grads);
    }
  }
}

std::vector<SlotNode> SlotReducer::nodes_of_rank(const ParamGroup& group, int rank) const {
  const std::int64_t slots = slots_ / group.comm->size();
  return nodes_of(rank * slots, (rank + 1) * slots, slots_);
}

void SlotReducer::finish_groups(const Context& ctx) {
  for (std::size_t g = 0; g < sums_.size(); ++g) {
    const ParamGroup& group = store().groups()[g];
    if (group.comm->size() == 1) {
      copy(ctx, sums_[g].here.value(root_of(slots_)), group.grads);
      continue;
    }
    exchange(ctx, group, sums_[g]);
    copy(ctx, sums_[g].shard.value(root_of(slots_)), shard_of_grads(group));
    if (zero_stage() == 0) group.comm->all_gather_in_place(group.grads).wait();
  }
}

// Every rank sends each peer the peer's shard of its first node, then of its second, ...: as many rounds as
// the rank of most nodes has. One if the slots of a rank are a power of two.
void SlotReducer::exchange(const Context& ctx, const ParamGroup& group, Sums& sums) const {
  const auto ranks = static_cast<std::size_t>(group.comm->size());
  std::vector<std::vector<SlotNode>> nodes;
  std::size_t rounds = 0;
  for (std::size_t rank = 0; rank < ranks; ++rank) {
    nodes.push_back(nodes_of_rank(group, static_cast<int>(rank)));
    rounds = std::max(rounds, nodes.back().size());
  }
  const std::vector<SlotNode>& mine = nodes[static_cast<std::size_t>(group.comm->rank())];
  for (std::size_t k = 0; k < rounds; ++k) {
    const ArenaScope scope(*ctx.work);
    const bool sends = k < mine.size();
    const Tensor sent = sends ? sums.here.value(mine[k]) : group.grads.slice(0, 0);
    const std::vector<std::int64_t> send_rows(ranks, sends ? group.shard_numel() : 0);
    std::vector<std::int64_t> recv_rows;
    std::int64_t received_numel = 0;
    for (const auto& theirs : nodes) {
      recv_rows.push_back(k < theirs.size() ? group.shard_numel() : 0);
      received_numel += recv_rows.back();
    }
    const Tensor received = ctx.work->alloc({received_numel}, group.grads.dtype);
    group.comm->all_to_all_v(sent, send_rows, received, recv_rows).wait();
    std::int64_t at = 0;
    for (std::size_t rank = 0; rank < ranks; at += recv_rows[rank], ++rank) {
      if (recv_rows[rank] == 0) continue;
      sums.shard.put(ctx, slots_, nodes[rank][k], received.slice(at, at + recv_rows[rank]));
    }
  }
}

double SlotReducer::global_norm(const Context& ctx) const {
  ExactSum squares;
  for (const ParamGroup& group : store().groups()) {
    if (group.tie != Tie::kCopy) add_squares(ctx, shard_of_grads(group), squares_block_, squares);
  }
  const PhaseScope phase(ctx.clock, Phase::kGradSync);
  all_reduce(store().mesh().world(), std::span(squares.parts()));
  return std::sqrt(squares.value());
}

std::size_t SlotReducer::bytes() const {
  std::size_t sum = 0;
  for (const Sums& sums : sums_) sum += sums.here.bytes() + sums.shard.bytes();
  return sum;
}

}  // namespace jevons
