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

// Elements of a row of the document mask (batch, q_len, row) bf16: whole packs of 16 bytes.
inline std::int64_t document_mask_row(std::int64_t kv_len) {
  return (kv_len + 7) / 8 * 8;
}

// Bytes that cuDNN's backward asks for at most; its forward asks for next to nothing. tests/cuda/plans holds
// it against the library.
std::size_t attention_backward_workspace(const AttentionSizes& piece);
// Bytes of ctx.work that forward and backward take at most, with document masks.
std::size_t attention_scratch_bytes(const AttentionSizes&);
// The longest sequence (q_len = kv_len) whose backward pass keeps to kMostSquareBytes, a multiple of 128.
std::int64_t longest_bounded_sequence(const AttentionSizes&);

// Takes of ctx.work, and gives back, what the pass on a GPU would.
void count_attention_forward(const Context&, const AttentionSizes&);
void count_attention_backward(const Context&, const AttentionSizes&);

}  // namespace jevons
