// Moving the operands of AVX-512 attention into tiles' layouts, and results out of them.
// Internal linkage for the reason given in pack_avx512.h.
#pragma once

#include "kernels/cpu/attention_engine.h"
#include "kernels/cpu/tile_avx512.h"

namespace jevons::cpu {
namespace {

constexpr int kHalves = 2;  // a panel's 32 queries are two vectors
constexpr __mmask16 kAll = 0xffff;

template <class T>
constexpr int kRowLanes = kTileCols / kPerLane<T>;  // lanes of 32 queries along k

template <class T>
std::int64_t lanes_of(std::int64_t values) {
  return ceil_div(values, kPerLane<T>);
}

inline std::int64_t whole_strips(std::int64_t keys) {
  return ceil_div(keys, kTileRows) * kTileRows;
}
inline std::int64_t whole_panels(std::int64_t columns) {
  return ceil_div(columns, kTileCols) * kTileCols;
}

template <class T>
T* row(const HeadRows& x, std::int64_t t, std::int64_t head = 0) {
  return static_cast<T*>(x.data) + t * x.ld + head * x.stride;
}

// (keys, dim) in strips of 14 keys: [strip][lane of dim][14]. Left factor of S^T and dP^T.
template <class T>
void pack_by_key(const HeadRows& x, std::int64_t keys, std::int64_t dim, float* dst) {
  for (std::int64_t key = 0; key < keys; key += kTileRows) {
    const int rows = static_cast<int>(smaller(kTileRows, keys - key));
    pack_inner(dst + key * lanes_of<T>(dim), kTileRows, row<T>(x, key), x.ld, rows, dim);
  }
}

// The transpose in strips of dim: [strip][lane of keys][size], zero behind the last key. Left factor of O^T
// and dQ^T.
template <class T>
void pack_by_dim(const HeadRows& x, std::int64_t keys, std::int64_t dim, float* dst) {
  const Strips strips(dim);
  const std::int64_t lanes = lanes_of<T>(whole_strips(keys));
  for (std::int64_t s = 0; s < strips.count; ++s) {
    float* strip = dst + strips.begin(s) * lanes;
    const int size = strips.size(s);
    pack_outer(strip, size, row<T>(x, 0) + strips.begin(s), x.ld, size, keys);
    for (std::int64_t i = lanes_of<T>(keys) * size; i < lanes * size; ++i) strip[i] = 0;
  }
}

// Two keys of half h into a packed panel.
template <class T>
inline void store_pair(float* packed, std::int64_t key, int h, __m512 even, __m512 odd) {
  if constexpr (std::is_same_v<T, float>) {
    _mm512_storeu_ps(packed + key * kTileCols + 16 * h, even);
    _mm512_storeu_ps(packed + (key + 1) * kTileCols + 16 * h, odd);
  } else {
    const __m512i low = _mm512_cvtepu16_epi32(reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(even)));
    const __m512i high = _mm512_cvtepu16_epi32(reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(odd)));
    _mm512_storeu_si512(packed + key / 2 * kTileCols + 16 * h,
                        _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
  }
}

// One key's 32 queries as a row of a left factor whose k runs over queries.
template <class T>
inline void store_row(float* rows, std::int64_t key, __m512 low, __m512 high) {
  if constexpr (std::is_same_v<T, float>) {
    _mm512_storeu_ps(rows + key * kTileCols, low);
    _mm512_storeu_ps(rows + key * kTileCols + 16, high);
  } else {
    _mm512_storeu_si512(rows + key * kRowLanes<T>, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low)));
  }
}

// `count` rows of dst (count, dim) = factor * transpose of src [dim][32].
template <class T>
void store_transposed(const float* src, std::int64_t dim, const __m512 factor[kHalves], std::int64_t count,
                      T* dst, std::int64_t ld) {
  for (std::int64_t d = 0; d < dim; d += 16) {
    const __mmask16 columns = mask16(dim - d);
    for (int h = 0; h < kHalves; ++h) {
      __m512i r[16];
      for (int i = 0; i < 16; ++i) {
        const float* from = src + (d + i) * kTileCols + 16 * h;
        const __m512 x = d + i < dim ? _mm512_loadu_ps(from) : _mm512_setzero_ps();
        r[i] = _mm512_castps_si512(_mm512_mul_ps(x, factor[h]));
      }
      transpose16(r);
      for (int i = 0; i < smaller(16, count - 16 * h); ++i) {
        store_lanes(dst + (16 * h + i) * ld + d, columns, _mm512_castsi512_ps(r[i]));
      }
    }
  }
}

}  // namespace
}  // namespace jevons::cpu
