// What forward and backward of AVX-512 attention share. Scores are kept transposed, S^T = K Q^T as [key][32
// queries]: the softmax then runs down the columns, 16 queries per vector, with no sum across lanes, and its
// result is already a packed panel for O^T = V^T P^T. Keys are taken in strips of 14; strips behind the
// diagonal or before the first visible document are never touched. Internal linkage for the reason given in
// tile_avx512.h.
#pragma once

#include "kernels/cpu/attention_engine.h"
#include "kernels/cpu/attention_pack_avx512.h"

namespace jevons::cpu {

// T: float or bf16. Defined in attention_backward_avx512.cpp.
template <class T>
void attention_backward_avx512(const AttentionTask& task);

namespace {

// exp(x) for x <= 0 or a little above, within 2 ulp; 0 for large negative x. Reduction and coefficients are
// those of exp_of in kernels/row/math.h.
inline __m512 exp_lanes(__m512 x) {
  const __m512 n =
      _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), _MM_FROUND_TO_NEAREST_INT);
  __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
  r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
  __m512 q = _mm512_set1_ps(1.381461023e-3f);
  q = _mm512_fmadd_ps(q, r, _mm512_set1_ps(8.368709797e-3f));
  q = _mm512_fmadd_ps(q, r, _mm512_set1_ps(4.166838741e-2f));
  q = _mm512_fmadd_ps(q, r, _mm512_set1_ps(1.666652069e-1f));
  q = _mm512_fmadd_ps(q, r, _mm512_set1_ps(4.999999345e-1f));
  const __m512 e = _mm512_add_ps(_mm512_fmadd_ps(_mm512_mul_ps(q, r), r, r), _mm512_set1_ps(1.0f));
  return _mm512_scalef_ps(e, n);
}

struct Panel {
  std::int64_t first, count;        // queries [first, first + count) of the sequence's, of one run
  std::int64_t position;            // of the first of them
  std::int64_t key_begin, key_end;  // whole strips that hold every key that any of them may see
  bool masked;                      // by documents
  __m512i doc_start[kHalves];

  Panel(const AttentionTask& task, std::int64_t first_query)
      : first(first_query),
        count(smaller(smaller(kTileCols, task.q_len - first_query),
                      task.queries.run - first_query % task.queries.run)),
        position(task.queries[first_query]),
        masked(task.doc_start != nullptr) {
    key_begin = 0;
    key_end = whole_strips(position + count);
    for (int h = 0; h < kHalves; ++h) doc_start[h] = _mm512_setzero_si512();
    if (!masked) return;
    std::int64_t lowest = position;
    for (std::int64_t i = 0; i < count; ++i) lowest = smaller(lowest, task.doc_start[first + i]);
    key_begin = lowest / kTileRows * kTileRows;
    for (int h = 0; h < kHalves; ++h) {
      doc_start[h] = _mm512_maskz_loadu_epi32(mask16(count - 16 * h), task.doc_start + first + 16 * h);
    }
  }
  std::int64_t keys() const { return key_end - key_begin; }
  // The queries of half h that see `key`.
  __mmask16 sees(std::int64_t key, int h) const {
    const __mmask16 exists = mask16(count - 16 * h);
    if (key <= position && !masked) return exists;
    const __mmask16 causal = static_cast<__mmask16>(~mask16(key - position - 16 * h));
    const __mmask16 document =
        _mm512_cmple_epi32_mask(doc_start[h], _mm512_set1_epi32(static_cast<int>(key)));
    return exists & causal & document;
  }
};

// out [key][32] = left factor (by key) times a packed panel of queries, for the keys of `panel`.
template <class T>
void score_tiles(const Panel& panel, const float* by_key, std::int64_t lanes, const float* queries,
                 float* out) {
  for (std::int64_t key = panel.key_begin; key < panel.key_end;
       key += kTileRows, out += kTileRows * kTileCols) {
    tile<T, kTileRows, 1, kTileRows>(lanes, by_key + key * lanes, queries,
                                     {out, kTileCols, kAll, kAll, Store::kFloat});
  }
}

// out [dim][32] = left factor (by dim) times a packed panel [lane of keys][32] that starts at the panel's
// first key.
template <class T>
void sum_over_keys(const Panel& panel, const float* by_dim, std::int64_t keys, std::int64_t dim,
                   const float* factors, float* out) {
  const Strips strips(dim);
  const std::int64_t lanes = lanes_of<T>(whole_strips(keys)), skipped = panel.key_begin / kPerLane<T>;
  for (std::int64_t s = 0; s < strips.count; ++s) {
    const float* strip = by_dim + strips.begin(s) * lanes + skipped * strips.size(s);
    packed_tile<T>(strips.size(s))(lanes_of<T>(panel.keys()), strip, factors,
                                   {out + strips.begin(s) * kTileCols, kTileCols, kAll, kAll, Store::kFloat});
  }
}

}  // namespace
}  // namespace jevons::cpu
