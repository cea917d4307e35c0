// Attention in plain loops, one query row at a time: for gradient checks in double, and for CPUs without
// AVX-512.
#include <algorithm>
#include <cmath>
#include <type_traits>
#include <vector>

#include "kernels/cpu/attention_engine.h"

namespace jevons::cpu {
namespace {

template <class T>
using Sum = std::conditional_t<std::is_same_v<T, double>, double, float>;

template <class T>
T* row(const HeadRows& x, std::int64_t t, std::int64_t head = 0) {
  return static_cast<T*>(x.data) + t * x.ld + head * x.stride;
}

template <class T>
Sum<T> dot(const T* a, const T* b, std::int64_t n) {
  Sum<T> sum = 0;
  for (std::int64_t i = 0; i < n; ++i) sum += static_cast<Sum<T>>(a[i]) * static_cast<Sum<T>>(b[i]);
  return sum;
}

template <class T>
void add_scaled(Sum<T> factor, const T* x, Sum<T>* y, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) y[i] += factor * static_cast<Sum<T>>(x[i]);
}

template <class T>
void store(const Sum<T>* x, Sum<T> factor, T* y, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) y[i] = static_cast<T>(x[i] * factor);
}

// The keys that query t sees: [begin, end).
struct Keys {
  Keys(const AttentionTask& task, std::int64_t t)
      : begin(task.doc_start == nullptr ? 0 : task.doc_start[t]), end(task.queries[t] + 1) {}
  std::int64_t begin, end;
};

template <class T>
void forward(const AttentionTask& task) {
  using A = Sum<T>;
  std::vector<A> p(static_cast<std::size_t>(task.kv_len)), o(static_cast<std::size_t>(task.v_dim));
  for (std::int64_t g = 0; g < task.group; ++g) {
    for (std::int64_t t = 0; t < task.q_len; ++t) {
      const T* q = row<T>(task.q, t, g);
      const Keys seen(task, t);
      A* const score = p.data();
      for (std::int64_t j = seen.begin; j < seen.end; ++j)
        score[j] = task.scale * dot(q, row<T>(task.k, j), task.dim);
      const A largest = *std::max_element(score + seen.begin, score + seen.end);
      A sum = 0;
      std::fill(o.begin(), o.end(), A(0));
      for (std::int64_t j = seen.begin; j < seen.end; ++j) {
        const A e = std::exp(score[j] - largest);
        sum += e;
        add_scaled(e, row<T>(task.v, j), o.data(), task.v_dim);
      }
      store(o.data(), 1 / sum, row<T>(task.o, t, g), task.v_dim);
      *row<A>(task.lse, t, g) = largest + std::log(sum);
    }
  }
}

template <class T>
void backward(const AttentionTask& task) {
  using A = Sum<T>;
  const auto size = [](std::int64_t n) { return static_cast<std::size_t>(n); };
  std::vector<A> dk(size(task.kv_len * task.dim)), dv(size(task.kv_len * task.v_dim)), dq(size(task.dim));
  for (std::int64_t g = 0; g < task.group; ++g) {
    for (std::int64_t t = 0; t < task.q_len; ++t) {
      const T* q = row<T>(task.q, t, g);
      const T* d_o = row<T>(task.d_o, t, g);
      const A delta = dot(d_o, row<T>(task.o, t, g), task.v_dim);
      const Keys seen(task, t);
      const A lse = *row<A>(task.lse, t, g);
      std::fill(dq.begin(), dq.end(), A(0));
      for (std::int64_t j = seen.begin; j < seen.end; ++j) {
        const T* k = row<T>(task.k, j);
        const A p = std::exp(task.scale * dot(q, k, task.dim) - lse);
        const A ds = p * (dot(d_o, row<T>(task.v, j), task.v_dim) - delta);
        add_scaled(p, d_o, dv.data() + j * task.v_dim, task.v_dim);
        add_scaled(ds, q, dk.data() + j * task.dim, task.dim);
        add_scaled(ds, k, dq.data(), task.dim);
      }
      store(dq.data(), A(task.scale), row<T>(task.dq, t, g), task.dim);
    }
  }
  for (std::int64_t j = 0; j < task.kv_len; ++j) {
    store(dk.data() + j * task.dim, A(task.scale), row<T>(task.dk, j), task.dim);
    store(dv.data() + j * task.v_dim, A(1), row<T>(task.dv, j), task.v_dim);
  }
}

template <class T>
constexpr AttentionEngine kEngine = {forward<T>, backward<T>};

}  // namespace

const AttentionEngine& attention_engine_portable(DType dtype) {
  if (dtype == DType::kF64) return kEngine<double>;
  return dtype == DType::kF32 ? kEngine<float> : kEngine<bf16>;
}

}  // namespace jevons::cpu
