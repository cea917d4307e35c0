// What attention takes of ctx.work on a GPU, beside its operands, and how its backward pass is cut for that:
// for the GPU, which asks for it, and for the dry run, which counts it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/attention.h"

namespace jevons {

struct AttentionSizes {
  std::int64_t batch = 0, q_len = 0, kv_len = 0, heads = 0, kv_heads = 0, dim = 0, v_dim = 0;
  bool documents = false;
  bool neighbours = true;  // one run of queries; cuDNN takes no others
  DType dtype = DType::kBF16;
};

AttentionSizes attention_sizes(const AttentionShape&, const AttentionSaved&);

// Some key heads, with their query heads, of some sequences.
struct AttentionPiece {
  std::int64_t sequence, sequences, kv_head, kv_heads;
};

// cuDNN's backward without atomic additions keeps a square of bf16 per sequence and query head, so that it is
// called for as many of them as this memory holds, or for one key head of one sequence if that needs more.
inline constexpr std::int64_t kMostSquareBytes = std::int64_t{1} << 30;
std::vector<AttentionPiece> attention_pieces(const AttentionSizes&, std::int64_t most_square_bytes);
AttentionSizes sizes_of(const AttentionPiece& piece, const AttentionSizes& whole);

// Elements of a row over all keys in scratch memory: whole packs of 16 bytes of bf16.
inline std::int64_t square_row(std::int64_t kv_len) {
  return (kv_len + 7) / 8 * 8;
}

// Bytes that cuDNN's backward asks for at most; its forward asks for next to nothing. tests/cuda/plans holds
// it against the library.
std::size_t attention_backward_workspace(const AttentionSizes& piece);
// What attention by matrix products works on at once: some queries of a sequence against the keys before
// them, for some key heads with one query head each. As many as `most_bytes` of squares hold, and at least
// one of one.
struct SquareBlock {
  std::int64_t queries, kv_heads;
};
SquareBlock square_block(const AttentionSizes&, std::int64_t most_bytes);
// Scratch memory of it: squares (kv_heads, queries, square_row(kv_len)), and the gradients of a sequence's
// keys and values of these heads, summed over blocks (kv_len, kv_heads, dim) and (kv_len, kv_heads, v_dim),
// in the accumulator dtype.
struct ForwardSquares {
  Tensor scores, p;
};
struct BackwardSquares {
  Tensor scores, d_p, p, d_scores, dk, dv;
};
ForwardSquares take_forward_squares(Arena&, const AttentionSizes&, const SquareBlock&);
BackwardSquares take_backward_squares(Arena&, const AttentionSizes&, const SquareBlock&);

// Bytes of ctx.work that forward and backward take at most, with document masks.
std::size_t attention_scratch_bytes(const AttentionSizes&);
// The longest sequence (q_len = kv_len) whose backward pass keeps to kMostSquareBytes, a multiple of 128.
std::int64_t longest_bounded_sequence(const AttentionSizes&);

// Takes of ctx.work, and gives back, what the pass on a GPU would: by cuDNN or by products, whichever takes
// more, since which of the two it is the GPU's library says.
void count_attention_forward(const Context&, const AttentionSizes&);
void count_attention_backward(const Context&, const AttentionSizes&);

}  // namespace jevons
