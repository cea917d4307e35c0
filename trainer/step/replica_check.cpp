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

// What every rank of the group's communicator holds.
std::vector<Replica> replicas_of(Worker& worker, std::size_t group) {
  const ParamStore& store = worker.store();
  const Optimizer::GroupState& state = worker.optimizer().groups()[group];
  const bool sharded = state.range.numel < store.groups()[group].numel;
  std::vector<Replica> replicas;
  for (const ParamPiece& piece : store.pieces(group)) {
    const std::string& name = store.params()[piece.id].spec.name;
    const Tensor weight = store.weight(piece.id);
    replicas.push_back({name, weight});
    if (sharded) continue;
    const auto add = [&](const std::string& what, const Tensor& flat) {
      replicas.push_back({what + name, flat.slice(piece.begin, piece.end)});
    };
    if (state.master.dtype != weight.dtype) add("master weights of ", state.master);
    for (std::size_t i = 0; i < state.state.size(); ++i)
      add(worker.optimizer().state_prefixes()[i], state.state[i]);
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
  for (const StateTensor& s : worker.model().state()) state.push_back({s.name, s.value});
  compare(world, state);
  agree(world, [&] {
    if (!difference.empty()) fail(ExitCode::kFailure, "{}", difference);
  });
}

}  // namespace jevons
