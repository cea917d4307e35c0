// The register tile of GEMM and attention: up to 14 x 32 sums that stay in registers while they run over k.
// Internal linkage for the reason given in pack_avx512.h.
#pragma once

#include <utility>

#include "kernels/cpu/pack_avx512.h"

namespace jevons::cpu {
namespace {

// 16 values to memory, rounded to nearest even for bf16 (denormals become 0).
inline void store_lanes(float* to, __mmask16 valid, __m512 x) {
  _mm512_mask_storeu_ps(to, valid, x);
}
inline void store_lanes(bf16* to, __mmask16 valid, __m512 x) {
  _mm256_mask_storeu_epi16(to, valid, reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(x)));
}

template <class T>
inline __m512 multiply_add(__m512 sum, __m512 a, __m512 b) {
  if constexpr (std::is_same_v<T, float>) {
    return _mm512_fmadd_ps(a, b, sum);
  } else {
    return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
  }
}

// What a tile does with its 32 sums per row.
enum class Store : std::uint8_t { kFloat, kAddFloat, kBf16 };

struct TileOutput {
  void* c;
  std::int64_t ldc;     // elements
  __mmask16 low, high;  // which of the 32 columns exist
  Store store;
};

// Asks for the lines of C that the tile will write, long before it does: from memory they cost as much as a
// tile.
template <int R>
inline void prefetch_output(const TileOutput& out) {
  const std::int64_t element = out.store == Store::kBf16 ? 2 : 4;
  const char* row = static_cast<const char*>(out.c);
#pragma GCC unroll 14
  for (int i = 0; i < R; ++i, row += out.ldc * element) {
    _mm_prefetch(row, _MM_HINT_T0);
    _mm_prefetch(row + 64, _MM_HINT_T0);
  }
}

inline void store_row(const TileOutput& out, int row, __m512 low, __m512 high) {
  if (out.store == Store::kBf16) {
    bf16* p = static_cast<bf16*>(out.c) + row * out.ldc;
    store_lanes(p, out.low, low);
    store_lanes(p + 16, out.high, high);
    return;
  }
  float* p = static_cast<float*>(out.c) + row * out.ldc;
  if (out.store == Store::kAddFloat) {
    low = _mm512_add_ps(_mm512_maskz_loadu_ps(out.low, p), low);
    high = _mm512_add_ps(_mm512_maskz_loadu_ps(out.high, p + 16), high);
  }
  store_lanes(p, out.low, low);
  store_lanes(p + 16, out.high, high);
}

// C (R, 32) = or += sum over lanes of A (R) B (32). A is at a[i * kRowStride + lane * kLaneStride]; b is a
// panel [lane][32]. Each sum is one chain in the order of k, so it does not depend on R or on the neighbours.
template <class T, int R, int kRowStride, int kLaneStride>
void tile(std::int64_t lanes, const float* a, const float* b, const TileOutput& out) {
  prefetch_output<R>(out);
  __m512 sum[R][2];
#pragma GCC unroll 14
  for (int i = 0; i < R; ++i) sum[i][0] = sum[i][1] = _mm512_setzero_ps();
  for (std::int64_t lane = 0; lane < lanes; ++lane, a += kLaneStride, b += kTileCols) {
    const __m512 b0 = _mm512_load_ps(b), b1 = _mm512_load_ps(b + 16);
#pragma GCC unroll 14
    for (int i = 0; i < R; ++i) {
      const __m512 ai = _mm512_set1_ps(a[i * kRowStride]);
      sum[i][0] = multiply_add<T>(sum[i][0], ai, b0);
      sum[i][1] = multiply_add<T>(sum[i][1], ai, b1);
    }
  }
#pragma GCC unroll 14
  for (int i = 0; i < R; ++i) store_row(out, i, sum[i][0], sum[i][1]);
}

using TileFunction = void (*)(std::int64_t lanes, const float* a, const float* b, const TileOutput& out);

// The tile for a strip of `rows` (1..14) packed as [lane][rows].
template <class T>
TileFunction packed_tile(int rows) {
  static constexpr auto kTable = []<int... I>(std::integer_sequence<int, I...>) {
    struct Table {
      TileFunction f[kTileRows];
    };
    return Table{{tile<T, I + 1, 1, I + 1>...}};
  }
  (std::make_integer_sequence<int, kTileRows>{});
  return kTable.f[rows - 1];
}

// Rows cut into the fewest strips of at most kTileRows, as equal as possible, the larger ones first.
struct Strips {
  std::int64_t rows, count;

  explicit Strips(std::int64_t n)
      : rows(n),
        count(ceil_div(n, kTileRows)),
        small_(n / larger(count, 1)),
        large_strips_(n - small_ * count) {}
  // First row of strip s.
  std::int64_t begin(std::int64_t s) const { return s * small_ + smaller(s, large_strips_); }
  int size(std::int64_t s) const { return static_cast<int>(small_ + (s < large_strips_ ? 1 : 0)); }

 private:
  std::int64_t small_, large_strips_;
};

}  // namespace
}  // namespace jevons::cpu
