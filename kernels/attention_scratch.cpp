#include "kernels/attention_scratch.h"

#include <algorithm>

#include "kernels/cuda/gemm.h"

namespace jevons {
namespace {

std::int64_t round_up(std::int64_t n, std::int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

// cuDNN rounds the sides up to its tiles, of 64 or 128 positions.
std::int64_t square_bytes(const AttentionSizes& s) {
  return round_up(s.q_len, 128) * round_up(s.kv_len, 128) * 2;
}

void take(const Context& ctx, std::size_t bytes) {
  ctx.work->alloc({static_cast<std::int64_t>(bytes)}, DType::kU8);
}

void take_mask(const Context& ctx, const AttentionSizes& s) {
  if (s.documents) ctx.work->alloc({s.batch, s.q_len, square_row(s.kv_len)}, DType::kBF16);
}

AttentionSizes largest_piece(const AttentionSizes& s) {
  return sizes_of(attention_pieces(s, kMostSquareBytes).front(), s);
}

}  // namespace

AttentionSizes attention_sizes(const AttentionShape& shape, const AttentionSaved& s) {
  return {.batch = shape.batch,
          .q_len = shape.q_len,
          .kv_len = shape.kv_len,
          .heads = s.q.heads,
          .kv_heads = s.k.heads,
          .dim = s.q.head_dim,
          .v_dim = s.v.head_dim,
          .documents = s.doc_start.defined(),
          .neighbours = shape.q_len <= shape.queries.run,
          .dtype = s.q.base.dtype};
}

std::vector<AttentionPiece> attention_pieces(const AttentionSizes& s, std::int64_t most_square_bytes) {
  const std::int64_t group_bytes = s.heads / s.kv_heads * square_bytes(s);
  const std::int64_t groups = std::max<std::int64_t>(most_square_bytes / group_bytes, 1);
  const std::int64_t heads = std::min(groups, s.kv_heads),
                     sequences = std::max<std::int64_t>(groups / s.kv_heads, 1);
  std::vector<AttentionPiece> pieces;
  for (std::int64_t b = 0; b < s.batch; b += sequences) {
    for (std::int64_t h = 0; h < s.kv_heads; h += heads)
      pieces.push_back({b, std::min(sequences, s.batch - b), h, std::min(heads, s.kv_heads - h)});
  }
  return pieces;
}

AttentionSizes sizes_of(const AttentionPiece& piece, const AttentionSizes& whole) {
  AttentionSizes part = whole;
  part.batch = piece.sequences;
  part.heads = piece.kv_heads * (whole.heads / whole.kv_heads);
  part.kv_heads = piece.kv_heads;
  return part;
}

std::size_t attention_backward_workspace(const AttentionSizes& piece) {
  // Query heads that share a key head have gradients of their own, which are summed.
  const std::int64_t shared = piece.heads > piece.kv_heads ? piece.kv_len * (piece.dim + piece.v_dim) * 2 : 0;
  constexpr std::int64_t kBetweenParts = 4096;
  return static_cast<std::size_t>(piece.batch * piece.heads * (square_bytes(piece) + shared) + kBetweenParts);
}

SquareBlock square_block(const AttentionSizes& s, std::int64_t most_bytes) {
  // Larger blocks compute more scores that no query sees, smaller ones read keys and values more often.
  constexpr std::int64_t kMostQueries = 512;
  const auto sum = static_cast<std::int64_t>(size_of(accumulator_of(s.dtype))),
             element = static_cast<std::int64_t>(size_of(s.dtype));
  const std::int64_t row_bytes = square_row(s.kv_len) * 2 * (sum + element),
                     gradient_bytes = s.kv_len * (s.dim + s.v_dim) * sum;
  const auto as_many = [most_bytes](std::int64_t bytes, std::int64_t most) {
    return std::max<std::int64_t>(std::min(most_bytes / std::max<std::int64_t>(bytes, 1), most), 1);
  };
  const std::int64_t queries = as_many(row_bytes, std::min(kMostQueries, s.q_len));
  return {.queries = queries, .kv_heads = as_many(queries * row_bytes + gradient_bytes, s.kv_heads)};
}

ForwardSquares take_forward_squares(Arena& arena, const AttentionSizes& s, const SquareBlock& block) {
  const Shape square{block.kv_heads, block.queries, square_row(s.kv_len)};
  return {.scores = arena.alloc(square, accumulator_of(s.dtype)), .p = arena.alloc(square, s.dtype)};
}

BackwardSquares take_backward_squares(Arena& arena, const AttentionSizes& s, const SquareBlock& block) {
  const Shape square{block.kv_heads, block.queries, square_row(s.kv_len)};
  const DType sums = accumulator_of(s.dtype);
  return {.scores = arena.alloc(square, sums),
          .d_p = arena.alloc(square, sums),
          .p = arena.alloc(square, s.dtype),
          .d_scores = arena.alloc(square, s.dtype),
          .dk = arena.alloc({s.kv_len, block.kv_heads, s.dim}, sums),
          .dv = arena.alloc({s.kv_len, block.kv_heads, s.v_dim}, sums)};
}

std::size_t attention_scratch_bytes(const AttentionSizes& s) {
  if (s.batch * s.q_len == 0) return 0;
  Arena counted(Device::kMeta, "scratch");
  const Context ctx{.device = Device::kMeta, .work = &counted};
  count_attention_forward(ctx, s);
  count_attention_backward(ctx, s);
  return counted.peak_bytes();
}

std::int64_t longest_bounded_sequence(const AttentionSizes& s) {
  AttentionSizes shorter = s;
  shorter.q_len = shorter.kv_len = s.kv_len / 128 * 128;
  while (shorter.kv_len > 0 && s.heads / s.kv_heads * square_bytes(shorter) > kMostSquareBytes)
    shorter.q_len = shorter.kv_len -= 128;
  return shorter.kv_len;
}

void count_attention_forward(const Context& ctx, const AttentionSizes& s) {
  if (s.dtype == DType::kBF16 && s.neighbours) {
    const ArenaScope by_cudnn(*ctx.work);
    take_mask(ctx, s);
  }
  const ArenaScope by_products(*ctx.work);
  take_forward_squares(*ctx.work, s, square_block(s, kMostSquareBytes));
  take(ctx, cuda::kMostGemmScratch);
}

void count_attention_backward(const Context& ctx, const AttentionSizes& s) {
  if (s.dtype == DType::kBF16 && s.neighbours && s.batch * s.q_len > 0) {
    const AttentionSizes piece = largest_piece(s);
    const ArenaScope by_cudnn(*ctx.work);
    take_mask(ctx, piece);
    ctx.work->alloc({piece.batch, piece.heads, piece.q_len}, DType::kF32);  // row sums of dO * O
    take(ctx, attention_backward_workspace(piece));
  }
  const ArenaScope by_products(*ctx.work);
  take_backward_squares(*ctx.work, s, square_block(s, kMostSquareBytes));
  take(ctx, cuda::kMostGemmScratch);
}

}  // namespace jevons
