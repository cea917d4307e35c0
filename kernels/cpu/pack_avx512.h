// Moving matrices into the layouts that the AVX-512 tiles read: strips [lane][rows] of a left factor and
// panels [lane][32] of a right factor. Along k the unit is a 32-bit lane: one fp32 value, or a pair of bf16
// values (k, k+1) as vdpbf16ps reads them. Included by *_avx512.cpp only. Everything has internal linkage, so
// that no code compiled with AVX-512 can be picked by the linker for a CPU without it; for the same reason
// nothing from the standard library is instantiated here.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "kernels/core/dtype.h"

namespace jevons::cpu {
namespace {

constexpr int kTileRows = 14;  // 14 x 2 accumulators + 2 for B + 1 for A of the 32 vector registers
constexpr int kTileCols = 32;

template <class T>
inline constexpr int kPerLane = std::is_same_v<T, float> ? 1 : 2;  // values along k in one lane

inline std::int64_t smaller(std::int64_t a, std::int64_t b) {
  return a < b ? a : b;
}
inline std::int64_t larger(std::int64_t a, std::int64_t b) {
  return a > b ? a : b;
}
inline std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

// The first `n` of 16 or 32 mask bits, n clamped to the range.
inline __mmask16 mask16(std::int64_t n) {
  return n <= 0 ? __mmask16(0) : n >= 16 ? __mmask16(0xffff) : static_cast<__mmask16>((1u << n) - 1);
}
inline __mmask32 mask32(std::int64_t n) {
  return n <= 0 ? __mmask32(0) : n >= 32 ? __mmask32(0xffffffff) : static_cast<__mmask32>((1u << n) - 1);
}

// Transposes a 16 x 16 block of 32-bit lanes held in r.
inline void transpose16(__m512i r[16]) {
  __m512i t[16];
  for (int i = 0; i < 8; ++i) {
    t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
  }
  for (int i = 0; i < 4; ++i) {
    for (int h = 0; h < 2; ++h) {
      r[4 * i + 2 * h] = _mm512_unpacklo_epi64(t[4 * i + h], t[4 * i + 2 + h]);
      r[4 * i + 2 * h + 1] = _mm512_unpackhi_epi64(t[4 * i + h], t[4 * i + 2 + h]);
    }
  }
  for (int i = 0; i < 2; ++i) {
    for (int j = 0; j < 4; ++j) {
      t[8 * i + j] = _mm512_shuffle_i32x4(r[8 * i + j], r[8 * i + 4 + j], 0x88);
      t[8 * i + 4 + j] = _mm512_shuffle_i32x4(r[8 * i + j], r[8 * i + 4 + j], 0xdd);
    }
  }
  for (int j = 0; j < 8; ++j) {
    r[j] = _mm512_shuffle_i32x4(t[j], t[8 + j], 0x88);
    r[8 + j] = _mm512_shuffle_i32x4(t[j], t[8 + j], 0xdd);
  }
}

// dst[lane][width] <- src (w rows of stride ld, k contiguous); rows w..width are zero. `values` of T along k,
// an odd tail of bf16 is paired with zero. Asks for the rows that follow, which the next call will want.
template <class T>
void pack_inner(float* dst, int width, const T* src, std::int64_t ld, int w, std::int64_t values) {
  constexpr int kHalves = sizeof(T) / 2;  // 16-bit units per value
  const std::int64_t lanes = ceil_div(values, kPerLane<T>), ahead = smaller(16, width) * ld;
  for (int w0 = 0; w0 < width; w0 += 16) {
    const int rows = static_cast<int>(smaller(16, w - w0));
    const __mmask16 columns = mask16(width - w0);
    for (std::int64_t lane = 0; lane < lanes; lane += 16) {
      const std::int64_t k = lane * kPerLane<T>;
      const __mmask32 valid = mask32((values - k) * kHalves);
      const T* from = src + w0 * ld + k;
      __m512i r[16];
      for (int i = 0; i < 16; ++i, from += ld) {
        r[i] = i < rows ? _mm512_maskz_loadu_epi16(valid, from) : _mm512_setzero_si512();
        _mm_prefetch(reinterpret_cast<const char*>(from + ahead), _MM_HINT_T1);
      }
      transpose16(r);
      const int count = static_cast<int>(smaller(16, lanes - lane));
      float* d = dst + lane * width + w0;
      for (int j = 0; j < count; ++j) _mm512_mask_storeu_epi32(d + j * width, columns, r[j]);
    }
  }
}

// One lane of up to 16 columns whose values lie `ld` apart along k: two bf16 rows are zipped, `pair` says
// that the second row exists.
inline __m512i load_lane(const float* src, std::int64_t, bool, __mmask16 valid) {
  return _mm512_castps_si512(_mm512_maskz_loadu_ps(valid, src));
}
inline __m512i load_lane(const bf16* src, std::int64_t ld, bool pair, __mmask16 valid) {
  const __m512i low = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(valid, src));
  if (!pair) return low;
  const __m512i high = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(valid, src + ld));
  return _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
}

// How many rows of memory ahead of the one being packed are asked for: they lie on other pages, where the
// hardware does not look by itself.
constexpr std::int64_t kRowsAhead = 16;

// dst[lane][width] <- src whose rows of stride ld run along k (w contiguous columns); columns w..width are
// zero. At most 32 wide.
template <class T>
void pack_outer(float* dst, int width, const T* src, std::int64_t ld, int w, std::int64_t values) {
  const __mmask16 valid[2] = {mask16(w), mask16(w - 16)}, columns[2] = {mask16(width), mask16(width - 16)};
  const std::int64_t step = kPerLane<T> * ld;
  for (std::int64_t k = 0; k < values; k += kPerLane<T>, dst += width, src += step) {
    const bool pair = k + 1 < values;
    for (int row = 0; row < kPerLane<T>; ++row) {
      const char* later = reinterpret_cast<const char*>(src + (kRowsAhead + row) * ld);
      _mm_prefetch(later, _MM_HINT_T1);
      if (width * sizeof(T) > 64) _mm_prefetch(later + 64, _MM_HINT_T1);
    }
    for (int h = 0; 16 * h < width; ++h) {
      _mm512_mask_storeu_epi32(dst + 16 * h, columns[h], load_lane(src + 16 * h, ld, pair, valid[h]));
    }
  }
}

}  // namespace
}  // namespace jevons::cpu
