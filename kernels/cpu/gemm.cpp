#include "kernels/cpu/gemm.h"

#include <algorithm>
#include <type_traits>
#include <vector>

#include "kernels/core/memory.h"
#include "kernels/cpu/launch.h"
#include "kernels/op_call.h"

namespace jevons::cpu {
namespace {

constexpr std::int64_t kRowBlock = 112;     // rows of C per task of one product: 8 strips of 14
constexpr std::int64_t kGroupedRows = 448;  // the same of a grouped product, which packs B for itself
constexpr std::int64_t kPackBytes = 4
                                    << 20;  // of B packed at a time: a share of L3, from where panels stream
constexpr std::int64_t kMinPanels = 8;
constexpr std::int64_t kPackPanels = 2;     // panels per packing task
constexpr std::int64_t kWidenedLines = 64;  // lines of an operand per widening task

// Grow-only memory of the caller's thread. Its team reads it, so it may not be shared between calls.
void* grown(Buffer& buffer, std::size_t bytes) {
  if (buffer.bytes() < bytes) buffer = Buffer(Device::kCpu, bytes);
  return buffer.view(0, {static_cast<std::int64_t>(buffer.bytes())}, DType::kU8).data;
}

void* pack_memory(std::size_t bytes) {
  thread_local Buffer buffer;
  return grown(buffer, bytes);
}

// Rows [begin, end) of C.
Product rows_of(const Product& p, std::int64_t begin, std::int64_t end) {
  Product part = p;
  part.m = end - begin;
  part.a = p.a.from(begin, 0);
  part.c = static_cast<char*>(p.c) + begin * p.ldc * static_cast<std::int64_t>(size_of(p.c_dtype));
  return part;
}

// Columns [begin, end) of C; begin is the first column of a panel.
Product columns_of(const Product& p, std::int64_t begin, std::int64_t end) {
  Product part = p;
  part.n = end - begin;
  part.b = p.b.from(begin, 0);
  part.c = static_cast<char*>(p.c) + begin * static_cast<std::int64_t>(size_of(p.c_dtype));
  return part;
}

// The share of k in [begin, end).
Product depth_of(const Product& p, std::int64_t begin, std::int64_t end) {
  Product part = p;
  part.k = end - begin;
  part.a = p.a.from(0, begin);
  part.b = p.b.from(0, begin);
  return part;
}

// to[i] = scale * from[i], in the accumulator dtype To.
template <class From, class To>
void widen_line(const From* from, To scale, To* to, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    if constexpr (std::is_same_v<From, bf16>) {
      to[i] = scale * static_cast<To>(static_cast<float>(from[i]));
    } else {
      to[i] = scale * static_cast<To>(from[i]);
    }
  }
}

// The operand (outer, k) in `dtype` without a scale: itself if it is that, else a copy in `buffer`, as it
// lies.
Operand readable(int threads, DType dtype, const Operand& x, std::int64_t outer, std::int64_t k,
                 Buffer& buffer) {
  if (x.dtype == dtype && x.scale == nullptr) return x;
  const bool inner = x.contiguous == Contiguous::kInner;
  const std::int64_t lines = inner ? outer : k, length = inner ? k : outer;
  const Operand wide{grown(buffer, static_cast<std::size_t>(lines * length) * size_of(dtype)), length, dtype,
                     x.contiguous};
  with_float_type(x.dtype, [&]<class From>(TypeTag<From>) {
    with_accumulator_type(dtype, [&]<class To>(TypeTag<To>) {
      const To scale = x.scale == nullptr ? To(1) : static_cast<To>(*x.scale);
      auto* const to = static_cast<To*>(const_cast<void*>(wide.data));
      parallel_for(threads, lines, kWidenedLines, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t line = begin; line < end; ++line)
          widen_line(static_cast<const From*>(x.data) + line * x.ld, scale, to + line * length, length);
      });
    });
  });
  return wide;
}

// The same product of operands that the engine reads.
Product readable(int threads, const GemmEngine& engine, Product p) {
  thread_local Buffer a, b;
  p.a = readable(threads, engine.dtype, p.a, p.m, p.k, a);
  p.b = readable(threads, engine.dtype, p.b, p.n, p.k, b);
  return p;
}

// Calls f(part) for parts of C's columns whose packed panels fit into kPackBytes; an accumulating product is
// cut along k too, since its sums can wait in C.
template <class F>
void for_each_pack(const GemmEngine& engine, const Product& p, F f) {
  const bool splits = p.output == Output::kAccumulate;
  const std::int64_t k_step = std::max<std::int64_t>(splits ? std::min(engine.k_block, p.k) : p.k, 1);
  const auto bytes = static_cast<std::int64_t>(engine.packed_bytes(kPanelColumns, k_step));
  const std::int64_t step = bytes == 0 ? p.n : std::max(kMinPanels, kPackBytes / bytes) * kPanelColumns;
  for (std::int64_t column = 0; column < p.n; column += step) {
    Product part = columns_of(p, column, std::min(column + step, p.n));
    for (std::int64_t k = 0; k == 0 || k < p.k; k += k_step) {
      f(depth_of(part, k, std::min(k + k_step, p.k)));
    }
  }
}

void run_on_one_thread(const GemmEngine& engine, const Product& p) {
  for_each_pack(engine, readable(1, engine, p), [&](const Product& part) {
    void* packed = pack_memory(engine.packed_bytes(part.n, part.k));
    engine.pack(part, 0, panels_of(part.n), packed);
    engine.multiply(part, packed);
  });
}

// Equal row blocks of at most kRowBlock rows, as many as fill the threads. An engine that is not
// row-invariant gets borders that do not depend on the number of threads.
std::int64_t row_block(const GemmEngine& engine, std::int64_t rows, int threads) {
  if (!engine.row_invariant) return kRowBlock;
  const std::int64_t rounds = (rows + threads * kRowBlock - 1) / (threads * kRowBlock);
  const std::int64_t blocks = std::max<std::int64_t>(rounds * threads, 1);
  return std::max<std::int64_t>((rows + blocks - 1) / blocks, 1);
}

}  // namespace

void run_product(int threads, const GemmEngine& engine, const Product& p) {
  if (p.m == 0 || p.n == 0) return;
  if (threads <= 1 && engine.row_invariant) return run_on_one_thread(engine, p);
  for_each_pack(engine, readable(threads, engine, p), [&](const Product& part) {
    void* packed = pack_memory(engine.packed_bytes(part.n, part.k));
    parallel_for(threads, panels_of(part.n), kPackPanels,
                 [&](std::int64_t begin, std::int64_t end) { engine.pack(part, begin, end, packed); });
    parallel_for(
        threads, part.m, row_block(engine, part.m, threads),
        [&](std::int64_t begin, std::int64_t end) { engine.multiply(rows_of(part, begin, end), packed); });
  });
}

void run_products(int threads, const GemmEngine& engine, std::span<const Product> products) {
  std::vector<Product> tasks;
  tasks.reserve(products.size());
  for (const Product& p : products) {
    const std::int64_t parts = (p.m + kGroupedRows - 1) / kGroupedRows;
    for (std::int64_t i = 0; i < parts; ++i) {
      tasks.push_back(rows_of(p, p.m * i / parts, p.m * (i + 1) / parts));
    }
  }
  std::stable_sort(tasks.begin(), tasks.end(),
                   [](const Product& x, const Product& y) { return x.m * x.n * x.k > y.m * y.n * y.k; });
  parallel_for(threads, static_cast<std::int64_t>(tasks.size()), 1,
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t i = begin; i < end; ++i)
                   run_on_one_thread(engine, tasks[static_cast<std::size_t>(i)]);
               });
}

}  // namespace jevons::cpu
