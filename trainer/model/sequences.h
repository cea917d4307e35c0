// How the T rows of a micro-batch on this rank form sequences: what layers whose rows see one another are
// told of it. Context parallelism deals the rows of every sequence out to the cp ranks in stripes
// (kernels/stripes.h).
#pragma once

#include <cstdint>

#include "kernels/attention.h"
#include "kernels/core/tensor.h"
#include "parallel/communicator.h"

namespace jevons {

struct Sequences {
  std::int64_t length = 0;  // positions of a sequence
  std::int64_t parts = 1;   // cp ranks that share it
  Positions here = {};      // of the rows of a sequence that lie here
  Tensor positions;  // (T) i32: row t is position here[t % local_length()] of sequence t / local_length()
  Tensor doc_start;  // (T) i32: first position that row t may see; undefined = 0
  // With several parts, of the micro-batch's T * parts rows: which of them lie here (T) i32, and
  // stripe_order's.
  Tensor rows{}, dealt{}, joined{};

  std::int64_t local_length() const { return length / parts; }
};

// Positions of a stripe: 128, the unit of balance, or less where a rank has no whole number of them.
std::int64_t stripe_run(std::int64_t length, std::int64_t parts);

// Of a micro-batch of `rows` rows, whole sequences of `length` with doc_start (rows) i32 or undefined; its
// tensors lie in ctx.stash.
Sequences sequences_here(const Context& ctx, const Communicator& cp, std::int64_t rows, std::int64_t length,
                         Tensor doc_start);
// Of x (T * parts) i32, of the whole micro-batch: this rank's rows (T), in ctx.stash; x itself of one part.
Tensor rows_here(const Context& ctx, const Sequences& sequences, Tensor x);

// The attention of `rows` queries to the keys of their whole sequences.
AttentionShape attention_shape(const Sequences& sequences, std::int64_t rows, float scale);

}  // namespace jevons
