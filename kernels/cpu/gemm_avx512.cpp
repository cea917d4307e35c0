// Row-invariant GEMM for AVX-512: fp32 with vfmadd, bf16 with vdpbf16ps and fp32 sums.
//
// B is packed once into panels of 32 columns, A in blocks of 112 rows into strips of at most 14; a 14 x 32
// tile of C stays in registers while it runs over one block of k. Blocks of k have fixed borders, and their
// sums are added to C in order: C + block 0 + block 1 + ... So the bits of an element depend on its row of A,
// its column of B and k.
#include "kernels/cpu/gemm_engine.h"
#include "kernels/cpu/scratch_avx512.h"
#include "kernels/cpu/tile_avx512.h"

namespace jevons::cpu {
namespace {

constexpr std::int64_t kBlockLanes = 512;           // lanes of k per block: a panel of B is 64 KiB
constexpr std::int64_t kBlockRows = 8 * kTileRows;  // rows of A packed at a time: at most 224 KiB

template <class T>
constexpr std::int64_t kBlockK = kBlockLanes* kPerLane<T>;

// The blocks of a panel follow one another; full blocks come first, so a block's offset is k0 / kPerLane
// * 32.
template <class T>
std::int64_t panel_floats(std::int64_t k) {
  return ceil_div(k, kPerLane<T>) * kTileCols;
}

template <class T>
std::size_t packed_bytes(std::int64_t n, std::int64_t k) {
  return static_cast<std::size_t>(ceil_div(n, kTileCols) * panel_floats<T>(k)) * sizeof(float);
}

// Rows of memory that run along k are read in whole stretches, kStretch of them at a time.
template <class T>
void pack_panels_outer(const Product& p, std::int64_t panel_begin, std::int64_t panel_end, float* packed) {
  constexpr std::int64_t kStretch = kRowsAhead;
  const T* b = static_cast<const T*>(p.b.data);
  for (std::int64_t k = 0; k < p.k; k += kStretch) {
    for (std::int64_t panel = panel_begin; panel < panel_end; ++panel) {
      const std::int64_t column = panel * kTileCols;
      pack_outer(packed + panel * panel_floats<T>(p.k) + k / kPerLane<T> * kTileCols, kTileCols,
                 b + k * p.b.ld + column, p.b.ld, static_cast<int>(smaller(kTileCols, p.n - column)),
                 smaller(kStretch, p.k - k));
    }
  }
}

template <class T>
void pack(const Product& p, std::int64_t panel_begin, std::int64_t panel_end, void* packed) {
  float* const dst = static_cast<float*>(packed);
  if (p.b.contiguous == Contiguous::kOuter) return pack_panels_outer<T>(p, panel_begin, panel_end, dst);
  for (std::int64_t panel = panel_begin; panel < panel_end; ++panel) {
    const std::int64_t column = panel * kTileCols;
    pack_inner(dst + panel * panel_floats<T>(p.k), kTileCols,
               static_cast<const T*>(p.b.data) + column * p.b.ld, p.b.ld,
               static_cast<int>(smaller(kTileCols, p.n - column)), p.k);
  }
}

// Strip s of rows [row, row + strips.rows) of A, values [k0, k0 + values), lands at dst + strips.begin(s) *
// lanes.
template <class T>
void pack_strips(const Operand& a, const Strips& strips, std::int64_t row, std::int64_t k0,
                 std::int64_t values, float* dst) {
  const T* src = static_cast<const T*>(a.data);
  const std::int64_t lanes = ceil_div(values, kPerLane<T>);
  if (a.contiguous == Contiguous::kInner) {
    for (std::int64_t s = 0; s < strips.count; ++s) {
      const int size = strips.size(s);
      pack_inner(dst + strips.begin(s) * lanes, size, src + (row + strips.begin(s)) * a.ld + k0, a.ld, size,
                 values);
    }
    return;
  }
  const std::int64_t row_bytes = strips.rows * static_cast<std::int64_t>(sizeof(T));
  // k outside, strips inside: reads whole stretches of a row, not 14 values per row of memory.
  for (std::int64_t k = 0, lane = 0; k < values; k += kPerLane<T>, ++lane) {
    const T* from = src + (k0 + k) * a.ld + row;
    for (int next = 0; next < kPerLane<T>; ++next) {
      const char* later = reinterpret_cast<const char*>(from + (kRowsAhead + next) * a.ld);
      for (std::int64_t byte = 0; byte < row_bytes; byte += 64) _mm_prefetch(later + byte, _MM_HINT_T1);
    }
    for (std::int64_t s = 0; s < strips.count; ++s) {
      const int size = strips.size(s);
      const __mmask16 valid = mask16(size);
      const __m512i v = load_lane(from + strips.begin(s), a.ld, k + 1 < values, valid);
      _mm512_mask_storeu_epi32(dst + strips.begin(s) * lanes + lane * size, valid, v);
    }
  }
}

// One block of k of packed B: panels of 32 of its columns, `stride` floats apart.
struct Panels {
  const float* data;
  std::int64_t stride, columns;
};

// All columns of C for the rows of the strips, from one block of k of `lanes` lanes.
template <class T>
void multiply_block(const Strips& strips, std::int64_t lanes, const float* a, const Panels& panels,
                    TileOutput out) {
  const float* b = panels.data;
  char* const c = static_cast<char*>(out.c);
  const std::int64_t element = out.store == Store::kBf16 ? 2 : 4;
  for (std::int64_t j = 0; j < panels.columns; j += kTileCols, b += panels.stride) {
    out.low = mask16(panels.columns - j);
    out.high = mask16(panels.columns - j - 16);
    for (std::int64_t s = 0; s < strips.count; ++s) {
      out.c = c + (strips.begin(s) * out.ldc + j) * element;
      packed_tile<T>(strips.size(s))(lanes, a + strips.begin(s) * lanes, b, out);
    }
  }
}

void round_rows(const float* src, std::int64_t rows, std::int64_t columns, bf16* dst, std::int64_t ld) {
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < columns; j += 16) {
      const __mmask16 valid = mask16(columns - j);
      store_lanes(dst + i * ld + j, valid, _mm512_maskz_loadu_ps(valid, src + i * columns + j));
    }
  }
}

// Rows [row, row + strips.rows) of C. Partial sums of a result that is to be rounded stay in fp32 until the
// last block.
template <class T>
void multiply_rows(const Product& p, const float* packed, const Strips& strips, std::int64_t row) {
  static thread_local Scratch strip_memory, sum_memory;
  const bool rounds = p.c_dtype == DType::kBF16;
  const bool in_parts = rounds && p.k > kBlockK<T>;
  TileOutput out{};
  out.c = in_parts ? sum_memory.floats(kBlockRows * p.n)
                   : static_cast<void*>(static_cast<char*>(p.c) + row * p.ldc * (rounds ? 2 : 4));
  out.ldc = in_parts ? p.n : p.ldc;
  float* a = strip_memory.floats(kBlockRows * kBlockLanes);
  for (std::int64_t k0 = 0; k0 == 0 || k0 < p.k; k0 += kBlockK<T>) {
    const std::int64_t values = smaller(kBlockK<T>, p.k - k0);
    pack_strips<T>(p.a, strips, row, k0, values, a);
    const bool first = k0 == 0 && p.output == Output::kAssign;
    out.store = rounds && !in_parts ? Store::kBf16 : first ? Store::kFloat : Store::kAddFloat;
    multiply_block<T>(strips, ceil_div(values, kPerLane<T>), a,
                      {packed + k0 / kPerLane<T> * kTileCols, panel_floats<T>(p.k), p.n}, out);
  }
  if (in_parts) {
    round_rows(static_cast<float*>(out.c), strips.rows, p.n, static_cast<bf16*>(p.c) + row * p.ldc, p.ldc);
  }
}

template <class T>
void multiply(const Product& p, const void* packed) {
  for (std::int64_t row = 0; row < p.m; row += kBlockRows) {
    multiply_rows<T>(p, static_cast<const float*>(packed), Strips(smaller(kBlockRows, p.m - row)), row);
  }
}

template <class T>
constexpr GemmEngine kEngine = {.name = "avx512 (own)",
                                .dtype = dtype_of<T>::value,
                                .row_invariant = true,
                                .k_block = kBlockK<T>,
                                .packed_bytes = packed_bytes<T>,
                                .pack = pack<T>,
                                .multiply = multiply<T>};

}  // namespace

const GemmEngine& gemm_engine_avx512_f32() {
  return kEngine<float>;
}
const GemmEngine& gemm_engine_avx512_bf16() {
  return kEngine<bf16>;
}

}  // namespace jevons::cpu
