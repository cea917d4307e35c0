// Causal attention for AVX-512, fp32 and bf16, by panels of 32 queries. In bf16 the unnormalised
// probabilities are rounded to bf16 as factors of the product with V; every sum, and the softmax itself, is
// fp32.
#include "kernels/cpu/attention_panel_avx512.h"
#include "kernels/cpu/scratch_avx512.h"

namespace jevons::cpu {
namespace {

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
  const std::int64_t dim_lanes = lanes_of<T>(task.dim), keys = whole_strips(task.kv_len);
  float* k_by_key = key_memory.floats(keys * dim_lanes);
  float* v_by_dim = value_memory.floats(lanes_of<T>(keys) * task.v_dim);
  float* queries = query_memory.floats(dim_lanes * kTileCols);
  float* scores = score_memory.floats(whole_strips(keys + kTileCols) * kTileCols);
  float* output = output_memory.floats(task.v_dim * kTileCols);
  pack_by_key<T>(task.k, task.kv_len, task.dim, k_by_key);
  pack_by_dim<T>(task.v, task.kv_len, task.v_dim, v_by_dim);
  for (std::int64_t g = 0; g < task.group; ++g) {
    for (std::int64_t first = 0, next = 0; first < task.q_len; first = next) {
      const Panel panel(task, first);
      next = first + panel.count;
      const int count = static_cast<int>(panel.count);
      pack_inner(queries, kTileCols, row<T>(task.q, first, g), task.q.ld, count, task.dim);
      score_tiles<T>(panel, k_by_key, dim_lanes, queries, scores);
      const SoftmaxColumns columns = softmax_over_keys<T>(panel, task.scale, scores);
      sum_over_keys<T>(panel, v_by_dim, task.kv_len, task.v_dim, scores, output);
      const __m512 one = _mm512_set1_ps(1);
      const __m512 inverse[kHalves] = {_mm512_div_ps(one, columns.sum[0]),
                                       _mm512_div_ps(one, columns.sum[1])};
      store_transposed(output, task.v_dim, inverse, panel.count, row<T>(task.o, panel.first, g), task.o.ld);
      store_lse(task, panel, g, columns);
    }
  }
}

constexpr AttentionEngine kFloatEngine = {forward<float>, attention_backward_avx512<float>};
constexpr AttentionEngine kBf16Engine = {forward<bf16>, attention_backward_avx512<bf16>};

}  // namespace

const AttentionEngine& attention_engine_avx512(DType dtype) {
  return dtype == DType::kF32 ? kFloatEngine : kBf16Engine;
}

}  // namespace jevons::cpu
