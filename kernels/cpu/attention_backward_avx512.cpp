// Backward of causal attention for AVX-512, from the saved log-sum-exp (Dao, arXiv:2307.08691, section 3.1):
//   P = exp(scale S - lse), dP = dO V^T, dS = P (dP - rowsum(dO O)),
//   dV = P^T dO, dK = scale dS^T Q, dQ = scale dS K
// In bf16 P and dS are rounded to bf16 as factors of the products; every sum is fp32. The sums over queries
// run by query head, then by panel, in order.
#include "kernels/cpu/attention_panel_avx512.h"
#include "kernels/cpu/scratch_avx512.h"

namespace jevons::cpu {
namespace {

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
    keys = whole_strips(t.kv_len);
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
    pack_by_key<T>(t.k, t.kv_len, t.dim, k_by_key);
    pack_by_key<T>(t.v, t.kv_len, t.v_dim, v_by_key);
    pack_by_dim<T>(t.k, t.kv_len, t.dim, k_by_dim);
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
    const T* q = row<T>(task.q, 0, g);
    const T* d_o = row<T>(task.d_o, 0, g);
    pack_inner(q_by_dim, kTileCols, q + panel.first * task.q.ld, task.q.ld, count, task.dim);
    pack_inner(do_by_dim, kTileCols, d_o + panel.first * task.d_o.ld, task.d_o.ld, count, task.v_dim);
    pack_inner(o_by_dim, kTileCols, row<T>(task.o, panel.first, g), task.o.ld, count, task.v_dim);
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
    sum_over_keys<T>(panel, k_by_dim, task.kv_len, task.dim, packed, dq_sum);
    const __m512 scale[kHalves] = {_mm512_set1_ps(task.scale), _mm512_set1_ps(task.scale)};
    store_transposed(dq_sum, task.dim, scale, panel.count, row<T>(task.dq, panel.first, g), task.dq.ld);
  }

  // dst = factor * sum, rounded to T.
  void store_sum(const float* sum, std::int64_t columns, float factor, const HeadRows& dst,
                 std::int64_t dim) const {
    for (std::int64_t t = 0; t < task.kv_len; ++t) {
      for (std::int64_t d = 0; d < dim; d += 16) {
        const __mmask16 valid = mask16(dim - d);
        const __m512 x = _mm512_mul_ps(_mm512_loadu_ps(sum + t * columns + d), _mm512_set1_ps(factor));
        store_lanes(row<T>(dst, t) + d, valid, x);
      }
    }
  }
};

}  // namespace

template <class T>
void attention_backward_avx512(const AttentionTask& task) {
  static thread_local BackwardMemory memory;
  BackwardPass<T> pass(task, memory);
  for (std::int64_t g = 0; g < task.group; ++g) {
    for (std::int64_t first = 0, next = 0; first < task.q_len; first = next) {
      const Panel panel(task, first);
      next = first + panel.count;
      pass.run_panel(panel, g);
    }
  }
  pass.store_sum(pass.dk_sum, pass.k_columns, task.scale, task.dk, task.dim);
  pass.store_sum(pass.dv_sum, pass.v_columns, 1, task.dv, task.v_dim);
}

template void attention_backward_avx512<float>(const AttentionTask&);
template void attention_backward_avx512<bf16>(const AttentionTask&);

}  // namespace jevons::cpu
