// What QK-clip asks of an attention (Kimi K2, arXiv:2507.20534, section 2.1): how large its logits were, and
// which rows of its weights make them smaller.
#pragma once

#include <concepts>
#include <cstdint>
#include <span>
#include <vector>

#include "parallel/param_store.h"

namespace jevons {

// Factors of the rows of this rank's part of a weight.
struct RowFactors {
  ParamId weight = 0;
  std::vector<double> rows;
};

// Without a norm of queries and keys. H: this rank's heads.
template <class B>
concept WatchedAttention = requires(B& branch, const B& same, Tensor largest,
                                    std::span<const double> factors) {
  { same.watched_heads() } -> std::same_as<std::int64_t>;
  // Forward raises `largest` (H), accumulator dtype, from now on to the log-sum-exp of a head's scaled logits
  // of a row, which is the row's largest logit or above it, by the logarithm of the number of keys at most.
  { branch.watch_logits(largest) } -> std::same_as<void>;
  // What multiplies the logits of each head by its factor (H), or by that of another that shares its keys.
  { same.logit_rows(factors) } -> std::same_as<std::vector<RowFactors>>;
};

}  // namespace jevons
