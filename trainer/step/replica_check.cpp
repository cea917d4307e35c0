#include "trainer/step/replica_check.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "kernels/core/error.h"
#include "kernels/core/memory.h"
#include "parallel/agree.h"
#include "parallel/host_exchange.h"

namespace jevons {
namespace {

struct Replica {
  std::string name;
  Tensor local;
};

// What the optimizer keeps of a group's weights.
void add_optimizer_state(Worker& worker, const Optimizer::Part& kept, std::vector<Replica>& replicas) {
  const ParamStore& store = worker.store();
  for (const ParamPiece& piece : store.pieces(kept.group, kept.range)) {
    const auto add = [&](const std::string& what, const Tensor& flat) {
      replicas.push_back({what + store.params()[piece.id].spec.name,
                          flat.slice(piece.begin - kept.range.begin, piece.end - kept.range.begin)});
    };
    if (kept.master.dtype != store.groups()[kept.group].weights.dtype) add("master weights of ", kept.master);
    for (std::size_t i = 0; i < kept.state.size(); ++i) add(kept.prefixes[i], kept.state[i]);
  }
}

// What every rank of the group's communicator holds.
std::vector<Replica> replicas_of(Worker& worker, std::size_t group) {
  const ParamStore& store = worker.store();
  std::vector<Replica> replicas;
  for (const ParamPiece& piece : store.pieces(group))
    replicas.push_back({store.params()[piece.id].spec.name, store.weight(piece.id)});
  const bool sharded = worker.reducer().update_range(group).numel < store.groups()[group].numel;
  for (const Optimizer::Part& kept : worker.optimizer().parts()) {
    if (kept.group == group && !sharded) add_optimizer_state(worker, kept, replicas);
  }
  return replicas;
}

std::uint64_t hash_of(const Context& ctx, const Tensor& tensor) {
  if (tensor.device == Device::kCpu) return XXH3_64bits(tensor.data, tensor.bytes());
  const Buffer host(Device::kCpu, tensor.bytes(), Contents::kUndefined);
  const Tensor copy = host.view(0, tensor.shape, tensor.dtype);
  copy_and_wait(ctx.stream, copy, tensor);
  return XXH3_64bits(copy.data, copy.bytes());
}

// "rank 1 differs from ranks 0, 2": those whose hash the fewest have against the others.
std::string describe_difference(const std::vector<std::uint64_t>& hashes, const std::vector<int>& ranks) {
  std::map<std::uint64_t, int> counts;
  for (const std::uint64_t hash : hashes) ++counts[hash];
  const auto most = std::max_element(counts.begin(), counts.end(),
                                     [](const auto& a, const auto& b) { return a.second < b.second; });
  std::vector<int> odd, others;
  for (std::size_t i = 0; i < hashes.size(); ++i) {
    (hashes[i] == most->first ? others : odd).push_back(ranks[i]);
  }
  return fmt::format("rank{} {} against rank{} {}", odd.size() == 1 ? "" : "s", fmt::join(odd, ", "),
                     others.size() == 1 ? "" : "s", fmt::join(others, ", "));
}

// What is wrong with the first replica that differs; empty if none does. Collective over `comm`.
std::string first_difference(const Context& ctx, Communicator& comm, int world_rank,
                             const std::vector<Replica>& replicas) {
  if (comm.size() == 1) return "";
  std::vector<std::uint64_t> mine = {static_cast<std::uint64_t>(world_rank)};
  for (const Replica& replica : replicas) mine.push_back(hash_of(ctx, replica.local));
  const std::vector<std::uint64_t> all = all_gather(comm, std::span(mine));
  const auto column = [&](std::size_t i) {
    std::vector<std::uint64_t> values;
    for (std::size_t at = i; at < all.size(); at += mine.size()) values.push_back(all[at]);
    return values;
  };
  const std::vector<std::uint64_t> first = column(0);
  const std::vector<int> ranks(first.begin(), first.end());
  for (std::size_t i = 0; i < replicas.size(); ++i) {
    const std::vector<std::uint64_t> hashes = column(i + 1);
    if (std::count(hashes.begin(), hashes.end(), hashes[0]) == std::ssize(hashes)) continue;
    return fmt::format("replicas of {} differ: {}", replicas[i].name, describe_difference(hashes, ranks));
  }
  return "";
}

}  // namespace

void check_replicas(Worker& worker) {
  Communicator& world = worker.mesh().world();
  std::string difference;
  const auto compare = [&](Communicator& comm, const std::vector<Replica>& replicas) {
    const std::string found = first_difference(worker.ctx(), comm, world.rank(), replicas);
    if (difference.empty()) difference = found;
  };
  for (std::size_t g = 0; g < worker.store().groups().size(); ++g) {
    compare(*worker.store().groups()[g].comm, replicas_of(worker, g));
  }
  std::vector<Replica> state;
  for (const StateTensor& s : worker.stages().state()) state.push_back({s.name, s.value});
  compare(worker.mesh().stage(), state);
  agree(world, [&] {
    if (!difference.empty()) fail(ExitCode::kFailure, "{}", difference);
  });
}

}  // namespace jevons
