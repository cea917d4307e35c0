// Batches of routed tokens over several ranks.
#pragma once

#include <algorithm>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include "kernels/core/rng.h"

namespace jevons::test {

using Values = std::vector<double>;
using Indices = std::vector<std::int32_t>;

// All tokens of all ranks: rank r holds tokens [begin[r], begin[r+1]).
struct Batch {
  std::vector<std::int64_t> begin;
  std::int64_t experts, top_k;
  Indices indices;  // (all tokens, K)

  int ranks() const { return static_cast<int>(begin.size()) - 1; }
  std::int64_t tokens() const { return begin.back(); }
  std::int64_t first(int rank) const { return begin[static_cast<std::size_t>(rank)]; }
  std::int64_t held(int rank) const { return begin[static_cast<std::size_t>(rank) + 1] - first(rank); }
  // As many tokens on every rank, as a capacity needs.
  bool even() const {
    bool even = true;
    for (int r = 0; r < ranks(); ++r) even = even && held(r) == held(0);
    return even;
  }
  std::int32_t expert(std::int64_t token, std::int64_t slot) const {
    return indices[static_cast<std::size_t>(token * top_k + slot)];
  }
};

using Choose = std::function<Indices(std::int64_t token)>;

inline Batch make_batch(const std::vector<std::int64_t>& tokens_of_rank, std::int64_t experts,
                        std::int64_t top_k, const Choose& choose) {
  Batch batch{{0}, experts, top_k, {}};
  for (std::int64_t n : tokens_of_rank) batch.begin.push_back(batch.begin.back() + n);
  for (std::int64_t t = 0; t < batch.tokens(); ++t) {
    const Indices chosen = choose(t);
    batch.indices.insert(batch.indices.end(), chosen.begin(), chosen.end());
  }
  return batch;
}

// K different experts out of `among`, at random.
inline Choose at_random(std::int64_t top_k, std::vector<std::int32_t> among) {
  return [=](std::int64_t token) {
    const RandomStream stream(5, "experts");
    Indices pool(among.begin(), among.end());
    for (std::int64_t k = 0; k < top_k; ++k) {
      const auto left = pool.size() - static_cast<std::size_t>(k);
      const auto pick = stream.below(static_cast<std::uint64_t>(token * 64 + k), left);
      std::swap(pool[static_cast<std::size_t>(k)], pool[static_cast<std::size_t>(k) + pick]);
    }
    pool.resize(static_cast<std::size_t>(top_k));
    return pool;
  };
}

inline Indices first_experts(std::int64_t n) {
  Indices all(static_cast<std::size_t>(n));
  std::iota(all.begin(), all.end(), 0);
  return all;
}

struct Named {
  const char* name;
  Batch batch;
};
inline std::vector<Named> batches(int ranks) {
  const auto n = static_cast<std::size_t>(ranks);
  std::vector<std::int64_t> uneven(n, 5), empty(n, 6);
  for (std::size_t r = 0; r < n; ++r) uneven[r] += static_cast<std::int64_t>(7 * r % 4);
  empty[n - 1] = 0;
  const auto all = first_experts(8);
  // Experts of one rank; every token for as many of them as it chooses.
  const std::int32_t local = 8 / ranks;
  const auto only = [=](int rank) {
    return [=](std::int64_t) {
      Indices experts{rank * local};
      if (local > 1) experts.push_back(rank * local + 1);
      return experts;
    };
  };
  const std::int64_t two = std::min<std::int64_t>(local, 2);
  const std::vector<std::int64_t> five(n, 5);
  std::vector<std::int64_t> alone(n, 0), rest(n, 5);
  alone[n - 1] = 9, rest[0] = 0;
  return {
      {"random", make_batch(std::vector<std::int64_t>(n, 11), 8, 3, at_random(3, all))},
      {"random, uneven ranks", make_batch(uneven, 8, 3, at_random(3, all))},
      {"a rank without tokens", make_batch(empty, 8, 2, at_random(2, all))},
      {"no tokens at all", make_batch(std::vector<std::int64_t>(n, 0), 8, 2, at_random(2, all))},
      {"one token per rank", make_batch(std::vector<std::int64_t>(n, 1), 8, 2, at_random(2, all))},
      {"everyone to expert 6", make_batch(uneven, 8, 1, [](std::int64_t) { return Indices{6}; })},
      {"experts 0 and 4 chosen by nobody", make_batch(uneven, 8, 2, at_random(2, {1, 2, 3, 5, 6, 7}))},
      {"all experts for every token", make_batch(uneven, 8, 8, at_random(8, all))},
      {"everyone to the first rank", make_batch(five, 8, two, only(0))},
      {"everyone to the last rank", make_batch(uneven, 8, two, only(ranks - 1))},
      {"everyone to itself",
       make_batch(five, 8, two,
                  [=](std::int64_t token) { return only(static_cast<int>(token / 5))(token); })},
      {"the last rank has no tokens and gets all", make_batch(empty, 8, two, only(ranks - 1))},
      {"the first rank has no tokens and gets none", make_batch(rest, 8, two, only(ranks - 1))},
      {"only the last rank has tokens, for the first", make_batch(alone, 8, two, only(0))},
      {"one token per rank, all to one expert",
       make_batch(std::vector<std::int64_t>(n, 1), 8, 1, [](std::int64_t) { return Indices{3}; })},
  };
}

}  // namespace jevons::test
