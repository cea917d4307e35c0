// Causal attention for AVX-512, fp32 and bf16, by panels of 32 queries. Scores are kept transposed, S^T = K
// Q^T as [key][32 queries]: the softmax then runs down the columns, 16 queries per vector, with no sum across
// lanes, and its result is already a packed panel for O^T = V^T P^T. Backward recomputes P from the
// log-sum-exp:
//   P = exp(scale S - lse), dP = dO V^T, dS = P (dP - rowsum(dO O)),
//   dV = P^T dO, dK = scale dS^T Q, dQ = scale dS K        (Dao, arXiv:2307.08691, section 3.1)
// In bf16 P and dS are rounded to bf16 as factors of the products; every sum, and the softmax itself, is
// fp32. Keys are taken in strips of 14; strips behind the diagonal or before the first visible document are
// never touched.
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

std::int64_t whole_strips(std::int64_t keys) {
  return ceil_div(keys, kTileRows) * kTileRows;
}
std::int64_t whole_panels(std::int64_t columns) {
  return ceil_div(columns, kTileCols) * kTileCols;
}

template <class T>
T* row(const HeadRows& x, std::int64_t t, std::int64_t offset = 0) {
  return static_cast<T*>(x.data) + t * x.ld + offset;
}

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

// ---- Operands packed once per key-value head

// (seq, dim) in strips of 14 keys: [strip][lane of dim][14]. Left factor of S^T and dP^T.
template <class T>
void pack_by_key(const HeadRows& x, std::int64_t seq, std::int64_t dim, float* dst) {
  for (std::int64_t key = 0; key < seq; key += kTileRows) {
    const int rows = static_cast<int>(smaller(kTileRows, seq - key));
    pack_inner(dst + key * lanes_of<T>(dim), kTileRows, row<T>(x, key), x.ld, rows, dim);
  }
}

// The transpose in strips of dim: [strip][lane of keys][size], zero behind the last key. Left factor of O^T
// and dQ^T.
template <class T>
void pack_by_dim(const HeadRows& x, std::int64_t seq, std::int64_t dim, float* dst) {
  const Strips strips(dim);
  const std::int64_t lanes = lanes_of<T>(whole_strips(seq));
  for (std::int64_t s = 0; s < strips.count; ++s) {
    float* strip = dst + strips.begin(s) * lanes;
    const int size = strips.size(s);
    pack_outer(strip, size, row<T>(x, 0, strips.begin(s)), x.ld, size, seq);
    for (std::int64_t i = lanes_of<T>(seq) * size; i < lanes * size; ++i) strip[i] = 0;
  }
}

// ---- One panel of queries

struct Panel {
  std::int64_t first, count;        // queries [first, first + count) of the sequence
  std::int64_t key_begin, key_end;  // whole strips that hold every key that any of them may see
  bool masked;                      // by documents
  __m512i doc_start[kHalves];

  Panel(const AttentionTask& task, std::int64_t first_query)
      : first(first_query),
        count(smaller(kTileCols, task.seq - first_query)),
        masked(task.doc_start != nullptr) {
    key_begin = 0;
    key_end = whole_strips(first + count);
    for (int h = 0; h < kHalves; ++h) doc_start[h] = _mm512_setzero_si512();
    if (!masked) return;
    std::int64_t lowest = first;
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
    if (key <= first && !masked) return exists;
    const __mmask16 causal = static_cast<__mmask16>(~mask16(key - first - 16 * h));
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
void sum_over_keys(const Panel& panel, const float* by_dim, std::int64_t seq, std::int64_t dim,
                   const float* factors, float* out) {
  const Strips strips(dim);
  const std::int64_t lanes = lanes_of<T>(whole_strips(seq)), skipped = panel.key_begin / kPerLane<T>;
  for (std::int64_t s = 0; s < strips.count; ++s) {
    const float* strip = by_dim + strips.begin(s) * lanes + skipped * strips.size(s);
    packed_tile<T>(strips.size(s))(lanes_of<T>(panel.keys()), strip, factors,
                                   {out + strips.begin(s) * kTileCols, kTileCols, kAll, kAll, Store::kFloat});
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

// Rows [first, first + count) of dst = factor * transpose of src [dim][32].
template <class T>
void store_transposed(const Panel& panel, const float* src, std::int64_t dim, const __m512 factor[kHalves],
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
      for (int i = 0; i < smaller(16, panel.count - 16 * h); ++i) {
        store_lanes(dst + (panel.first + 16 * h + i) * ld + d, columns, _mm512_castsi512_ps(r[i]));
      }
    }
  }
}

// ---- Forward

struct SoftmaxColumns {
  __m512 shift[kHalves];  // scale * max over keys
  __m512 sum[kHalves];    // of exp(scale s - shift)
};

// Scores [key][32] become exp(scale (s - max)), 0 where unseen, as a packed panel in the same memory.
template <class T>
SoftmaxColumns softmax_over_keys(const Panel& panel, float scale, float* scores) {
  const std::int64_t keys = panel.keys();
  const __m512 factor = _mm512_set1_ps(scale);
  SoftmaxColumns result;
  for (int h = 0; h < kHalves; ++h) {
    const float* column = scores + 16 * h;
    __m512 top = _mm512_set1_ps(-__builtin_inff());
    for (std::int64_t i = 0; i < keys; ++i) {
      top = _mm512_mask_max_ps(top, panel.sees(panel.key_begin + i, h), top,
                               _mm512_loadu_ps(column + i * kTileCols));
    }
    const __m512 shift = _mm512_mul_ps(top, factor);
    __m512 sum = _mm512_setzero_ps();
    for (std::int64_t i = 0; i < keys; i += 2) {
      __m512 p[2];
      for (int j = 0; j < 2; ++j) {
        const __m512 s = _mm512_loadu_ps(column + (i + j) * kTileCols);
        p[j] = _mm512_maskz_mov_ps(panel.sees(panel.key_begin + i + j, h),
                                   exp_lanes(_mm512_fmsub_ps(s, factor, shift)));
        sum = _mm512_add_ps(sum, p[j]);
      }
      store_pair<T>(scores, i, h, p[0], p[1]);
    }
    result.shift[h] = shift;
    result.sum[h] = sum;
  }
  return result;
}

void store_lse(const AttentionTask& task, const Panel& panel, std::int64_t g, const SoftmaxColumns& columns) {
  alignas(64) float shift[kTileCols], sum[kTileCols];
  for (int h = 0; h < kHalves; ++h) {
    _mm512_store_ps(shift + 16 * h, columns.shift[h]);
    _mm512_store_ps(sum + 16 * h, columns.sum[h]);
  }
  for (std::int64_t i = 0; i < panel.count; ++i) {
    *row<float>(task.lse, panel.first + i, g) = shift[i] + __builtin_logf(sum[i]);
  }
}

template <class T>
void forward(const AttentionTask& task) {
  static thread_local Scratch key_memory, value_memory, query_memory, score_memory, output_memory;
  const std::int64_t dim_lanes = lanes_of<T>(task.dim), keys = whole_strips(task.seq);
  float* k_by_key = key_memory.floats(keys * dim_lanes);
  float* v_by_dim = value_memory.floats(lanes_of<T>(keys) * task.v_dim);
  float* queries = query_memory.floats(dim_lanes * kTileCols);
  float* scores = score_memory.floats(whole_strips(keys + kTileCols) * kTileCols);
  float* output = output_memory.floats(task.v_dim * kTileCols);
  pack_by_key<T>(task.k, task.seq, task.dim, k_by_key);
  pack_by_dim<T>(task.v, task.seq, task.v_dim, v_by_dim);
  for (std::int64_t g = 0; g < task.group; ++g) {
    for (std::int64_t first = 0; first < task.seq; first += kTileCols) {
      const Panel panel(task, first);
      const int count = static_cast<int>(panel.count);
      pack_inner(queries, kTileCols, row<T>(task.q, first, g * task.dim), task.q.ld, count, task.dim);
      score_tiles<T>(panel, k_by_key, dim_lanes, queries, scores);
      const SoftmaxColumns columns = softmax_over_keys<T>(panel, task.scale, scores);
      sum_over_keys<T>(panel, v_by_dim, task.seq, task.v_dim, scores, output);
      const __m512 one = _mm512_set1_ps(1);
      const __m512 inverse[kHalves] = {_mm512_div_ps(one, columns.sum[0]),
                                       _mm512_div_ps(one, columns.sum[1])};
      store_transposed<T>(panel, output, task.v_dim, inverse, row<T>(task.o, 0, g * task.v_dim), task.o.ld);
      store_lse(task, panel, g, columns);
    }
  }
}

// ---- Backward

// Everything that backward keeps for one key-value head. Sums over queries are (keys, dim rounded up to 32).
struct BackwardMemory {
  Scratch k_by_key, v_by_key, k_by_dim, dk_sum, dv_sum;
  Scratch q_by_dim, o_by_dim, do_by_dim;  // panels [lane of dim][32 queries]
  Scratch q_by_query, do_by_query;        // panels [panel of dim][lane of queries][32]
  Scratch scores, d_scores, d_scores_packed, dq_sum;
};

template <class T>
struct BackwardPass {
  const AttentionTask& task;
  std::int64_t keys, dim_lanes, v_lanes, k_columns, v_columns;
  float *k_by_key, *v_by_key, *k_by_dim, *dk_sum, *dv_sum;
  float *q_by_dim, *o_by_dim, *do_by_dim, *q_by_query, *do_by_query;
  float *scores, *d_scores, *d_scores_packed, *dq_sum;

  BackwardPass(const AttentionTask& t, BackwardMemory& memory) : task(t) {
    keys = whole_strips(t.seq);
    dim_lanes = lanes_of<T>(t.dim), v_lanes = lanes_of<T>(t.v_dim);
    k_columns = whole_panels(t.dim), v_columns = whole_panels(t.v_dim);
    const std::int64_t score_floats = whole_strips(keys + kTileCols) * kTileCols;
    k_by_key = memory.k_by_key.floats(keys * dim_lanes);
    v_by_key = memory.v_by_key.floats(keys * v_lanes);
    k_by_dim = memory.k_by_dim.floats(lanes_of<T>(keys) * t.dim);
    dk_sum = memory.dk_sum.floats(keys * k_columns);
    dv_sum = memory.dv_sum.floats(keys * v_columns);
    q_by_dim = memory.q_by_dim.floats(dim_lanes * kTileCols);
    o_by_dim = memory.o_by_dim.floats(v_lanes * kTileCols);
    do_by_dim = memory.do_by_dim.floats(v_lanes * kTileCols);
    q_by_query = memory.q_by_query.floats(kTileCols * k_columns);
    do_by_query = memory.do_by_query.floats(kTileCols * v_columns);
    scores = memory.scores.floats(score_floats);
    d_scores = memory.d_scores.floats(score_floats);
    d_scores_packed = memory.d_scores_packed.floats(score_floats);
    dq_sum = memory.dq_sum.floats(t.dim * kTileCols);
    pack_by_key<T>(t.k, t.seq, t.dim, k_by_key);
    pack_by_key<T>(t.v, t.seq, t.v_dim, v_by_key);
    pack_by_dim<T>(t.k, t.seq, t.dim, k_by_dim);
    __builtin_memset(dk_sum, 0, static_cast<std::size_t>(keys * k_columns) * sizeof(float));
    __builtin_memset(dv_sum, 0, static_cast<std::size_t>(keys * v_columns) * sizeof(float));
  }

  // The rows of x that belong to the panel, as right factors whose k runs over queries.
  static void pack_queries(const Panel& panel, const T* x, std::int64_t ld, std::int64_t dim, float* dst) {
    for (std::int64_t d = 0; d < dim; d += kTileCols, dst += kRowLanes<T> * kTileCols) {
      pack_outer(dst, kTileCols, x + panel.first * ld + d, ld, static_cast<int>(smaller(kTileCols, dim - d)),
                 panel.count);
    }
  }

  void pack_panel(const Panel& panel, std::int64_t g) {
    const int count = static_cast<int>(panel.count);
    const T* q = row<T>(task.q, 0, g * task.dim);
    const T* d_o = row<T>(task.d_o, 0, g * task.v_dim);
    pack_inner(q_by_dim, kTileCols, q + panel.first * task.q.ld, task.q.ld, count, task.dim);
    pack_inner(do_by_dim, kTileCols, d_o + panel.first * task.d_o.ld, task.d_o.ld, count, task.v_dim);
    pack_inner(o_by_dim, kTileCols, row<T>(task.o, panel.first, g * task.v_dim), task.o.ld, count,
               task.v_dim);
    pack_queries(panel, q, task.q.ld, task.dim, q_by_query);
    pack_queries(panel, d_o, task.d_o.ld, task.v_dim, do_by_query);
  }

  // rowsum(dO O) of the queries of half h.
  __m512 delta(int h) const {
    __m512 sum = _mm512_setzero_ps();
    for (std::int64_t lane = 0; lane < v_lanes; ++lane) {
      const std::int64_t at = lane * kTileCols + 16 * h;
      sum = multiply_add<T>(sum, _mm512_loadu_ps(do_by_dim + at), _mm512_loadu_ps(o_by_dim + at));
    }
    return sum;
  }

  // scores becomes P, d_scores becomes dS, both as rows of left factors; d_scores_packed is dS as a right
  // factor (the same memory as d_scores in fp32, where the two layouts agree).
  void score_gradients(const Panel& panel, std::int64_t g) {
    alignas(64) float lse[kTileCols] = {};
    for (std::int64_t i = 0; i < panel.count; ++i) lse[i] = *row<float>(task.lse, panel.first + i, g);
    const __m512 scale = _mm512_set1_ps(task.scale);
    const __m512 shift[kHalves] = {_mm512_load_ps(lse), _mm512_load_ps(lse + 16)};
    const __m512 minus[kHalves] = {delta(0), delta(1)};
    for (std::int64_t i = 0; i < panel.keys(); i += 2) {
      __m512 p[2][kHalves], ds[2][kHalves];
      for (int j = 0; j < 2; ++j) {
        for (int h = 0; h < kHalves; ++h) {
          const std::int64_t at = (i + j) * kTileCols + 16 * h;
          const __m512 x = _mm512_fmsub_ps(_mm512_loadu_ps(scores + at), scale, shift[h]);
          p[j][h] = _mm512_maskz_mov_ps(panel.sees(panel.key_begin + i + j, h), exp_lanes(x));
          ds[j][h] = _mm512_mul_ps(p[j][h], _mm512_sub_ps(_mm512_loadu_ps(d_scores + at), minus[h]));
        }
      }
      for (int j = 0; j < 2; ++j) {
        store_row<T>(scores, i + j, p[j][0], p[j][1]);
        store_row<T>(d_scores, i + j, ds[j][0], ds[j][1]);
      }
      if constexpr (!std::is_same_v<T, float>) {
        for (int h = 0; h < kHalves; ++h) store_pair<T>(d_scores_packed, i, h, ds[0][h], ds[1][h]);
      }
    }
  }

  // sum (keys, columns) += rows (keys, 32 queries) times the panel's queries.
  static void sum_over_queries(const Panel& panel, const float* rows, const float* by_query,
                               std::int64_t columns, float* sum) {
    const std::int64_t lanes = lanes_of<T>(panel.count);
    for (std::int64_t d = 0; d < columns; d += kTileCols, by_query += kRowLanes<T> * kTileCols) {
      for (std::int64_t i = 0; i < panel.keys(); i += kTileRows) {
        tile<T, kTileRows, kRowLanes<T>, 1>(
            lanes, rows + i * kRowLanes<T>, by_query,
            {sum + (panel.key_begin + i) * columns + d, columns, kAll, kAll, Store::kAddFloat});
      }
    }
  }

  void run_panel(const Panel& panel, std::int64_t g) {
    pack_panel(panel, g);
    score_tiles<T>(panel, k_by_key, dim_lanes, q_by_dim, scores);
    score_tiles<T>(panel, v_by_key, v_lanes, do_by_dim, d_scores);
    score_gradients(panel, g);
    sum_over_queries(panel, scores, do_by_query, v_columns, dv_sum);
    sum_over_queries(panel, d_scores, q_by_query, k_columns, dk_sum);
    const float* packed = std::is_same_v<T, float> ? d_scores : d_scores_packed;
    sum_over_keys<T>(panel, k_by_dim, task.seq, task.dim, packed, dq_sum);
    const __m512 scale[kHalves] = {_mm512_set1_ps(task.scale), _mm512_set1_ps(task.scale)};
    store_transposed<T>(panel, dq_sum, task.dim, scale, row<T>(task.dq, 0, g * task.dim), task.dq.ld);
  }

  // dst = factor * sum, rounded to T.
  void store_sum(const float* sum, std::int64_t columns, float factor, const HeadRows& dst,
                 std::int64_t dim) const {
    for (std::int64_t t = 0; t < task.seq; ++t) {
      for (std::int64_t d = 0; d < dim; d += 16) {
        const __mmask16 valid = mask16(dim - d);
        const __m512 x = _mm512_mul_ps(_mm512_loadu_ps(sum + t * columns + d), _mm512_set1_ps(factor));
        store_lanes(row<T>(dst, t, d), valid, x);
      }
    }
  }
};

template <class T>
void backward(const AttentionTask& task) {
  static thread_local BackwardMemory memory;
  BackwardPass<T> pass(task, memory);
  for (std::int64_t g = 0; g < task.group; ++g) {
    for (std::int64_t first = 0; first < task.seq; first += kTileCols) pass.run_panel(Panel(task, first), g);
  }
  pass.store_sum(pass.dk_sum, pass.k_columns, task.scale, task.dk, task.dim);
  pass.store_sum(pass.dv_sum, pass.v_columns, 1, task.dv, task.v_dim);
}

constexpr AttentionEngine kFloatEngine = {forward<float>, backward<float>};
constexpr AttentionEngine kBf16Engine = {forward<bf16>, backward<bf16>};

}  // namespace

const AttentionEngine& attention_engine_avx512(DType dtype) {
  return dtype == DType::kF32 ? kFloatEngine : kBf16Engine;
}

}  // namespace jevons::cpu
