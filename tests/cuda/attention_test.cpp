// Attention on the GPU against the same call on the CPU. The emulated cuDNN evaluates the graphs that the
// product builds, operation by operation, so this holds their operands, strides and masks. Matrix products
// are also called by themselves, whatever the library would choose. Both beside an fp64 reference:
// tests/kernels/attention_test.cpp.
#include "kernels/attention.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "kernels/attention_scratch.h"
#include "kernels/core/error.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/attention_products.h"
#include "tests/cuda/gpu_bench.h"

namespace jevons::test {
namespace {

struct Case {
  std::int64_t batch, seq, heads, kv_heads, dim, v_dim;
  bool documents = false;
  std::int64_t before = 0;  // keys before the first query
  std::int64_t apart = 0;   // columns between heads

  std::int64_t kv_len() const { return before + seq; }
  std::int64_t q_rows() const { return batch * seq; }
  std::int64_t kv_rows() const { return batch * kv_len(); }
  std::int64_t k_column() const { return heads * (dim + apart) + 8; }
  std::int64_t v_column() const { return k_column() + kv_heads * (dim + apart); }
  std::int64_t columns() const { return v_column() + kv_heads * (v_dim + apart); }
  AttentionShape shape() const {
    return {.batch = batch,
            .q_len = seq,
            .kv_len = kv_len(),
            .queries = {.first = before},
            .scale = static_cast<float>(1 / std::sqrt(static_cast<double>(dim)))};
  }
};

// One side of a comparison: q, k and v in one fused matrix with 8 columns of nobody between q and k, as their
// gradients. Of its rows q has those of the last positions: as many as there are queries.
struct Side {
  Tensor qkv, o, lse, d_o, d_qkv, doc_start;

  AttentionGrads views(const Case& c, Tensor base) const {
    return {{base.slice(c.kv_rows() - c.q_rows(), c.kv_rows()), 0, c.heads, c.dim, c.dim + c.apart},
            {base, c.k_column(), c.kv_heads, c.dim, c.dim + c.apart},
            {base, c.v_column(), c.kv_heads, c.v_dim, c.v_dim + c.apart}};
  }
  AttentionSaved saved(const Case& c) const {
    const AttentionGrads in = views(c, qkv);
    return {in.dq, in.dk, in.dv, {o, 0, c.heads, c.v_dim}, doc_start, lse};
  }
  HeadView d_out(const Case& c) const { return {d_o, 0, c.heads, c.v_dim}; }

  void run(const Context& ctx, const Case& c) const {
    attention_forward(ctx, c.shape(), saved(c));
    attention_backward(ctx, c.shape(), saved(c), d_out(c), views(c, d_qkv));
  }
  // With scratch memory of another size for the backward pass.
  void run_on_gpu(const Context& ctx, const Case& c, std::int64_t most_square_bytes) const {
    attention_forward(ctx, c.shape(), saved(c));
    cuda::attention_backward(ctx, c.shape(), saved(c), d_out(c), views(c, d_qkv), most_square_bytes);
  }
  void run_by_products(const Context& ctx, const Case& c, const SquareBlock& at_once) const {
    cuda::attention_forward_by_products(ctx, c.shape(), saved(c), at_once);
    cuda::attention_backward_by_products(ctx, c.shape(), saved(c), d_out(c), views(c, d_qkv), at_once);
  }
};

// run_on_gpu(ctx, side): both passes.
template <class F>
void compare(const Case& c, F run_on_gpu) {
  CAPTURE(c.batch, c.seq, c.heads, c.kv_heads, c.dim, c.v_dim, c.documents, c.before, c.apart);
  KernelBench cpu;
  GpuBench gpu;
  const std::int64_t rows = c.q_rows(), out = c.heads * c.v_dim;
  Side host{cpu.random({c.kv_rows(), c.columns()}, DType::kBF16),
            cpu.poisoned({rows, out}, DType::kBF16),
            cpu.poisoned({rows, c.heads}, DType::kF32),
            cpu.random({rows, out}, DType::kBF16),
            cpu.filled({c.kv_rows(), c.columns()}, DType::kBF16, [](std::int64_t) { return 7; }),
            {}};
  Side device{gpu.upload(host.qkv),
              gpu.undefined({rows, out}, DType::kBF16),
              gpu.undefined({rows, c.heads}, DType::kF32),
              gpu.upload(host.d_o),
              gpu.upload(host.d_qkv),
              {}};
  if (c.documents) {
    host.doc_start = cpu.filled({rows}, DType::kI32, [&](std::int64_t row) {
      const std::int64_t t = c.before + row % c.seq;
      return t >= 20 ? 20 : t >= 3 ? 3 : t >= 1 ? 1 : 0;
    });
    device.doc_start = gpu.upload(host.doc_start);
  }
  host.run(cpu.ctx, c);
  run_on_gpu(gpu.ctx, device);
  CHECK(max_error(gpu.download(device.o), to_doubles(host.o)) < 0.025);
  CHECK(max_error(gpu.download(device.lse), to_doubles(host.lse)) < 1e-5);
  CHECK(max_error(gpu.download(device.d_qkv), to_doubles(host.d_qkv)) <
        0.05);  // columns of nobody keep their 7
}

void check_case(const Case& c, std::int64_t most_square_bytes = kMostSquareBytes) {
  CAPTURE(most_square_bytes);
  compare(c, [&](const Context& ctx, const Side& side) { side.run_on_gpu(ctx, c, most_square_bytes); });
}

void check_products(const Case& c, const SquareBlock& at_once) {
  CAPTURE(at_once.queries, at_once.kv_heads);
  compare(c, [&](const Context& ctx, const Side& side) { side.run_by_products(ctx, c, at_once); });
}

bool went(const std::string& what) {
  const std::vector<std::string> all = attention_engines();
  return std::find(all.begin(), all.end(), what) != all.end();
}

}  // namespace

TEST_CASE("attention on the GPU matches the CPU", "[attention]") {
  check_case({1, 1, 1, 1, 8, 8});
  check_case({2, 13, 2, 2, 8, 8});
  check_case({1, 33, 4, 2, 16, 8});  // grouped queries, another width of values
  check_case({2, 24, 4, 1, 8, 16});
  check_case({1, 40, 2, 1, 64, 64});
}

TEST_CASE("attention on the GPU with heads inside wider rows matches the CPU", "[attention]") {
  check_case({2, 13, 2, 2, 8, 16, false, 0, 8});
  check_case({1, 33, 4, 2, 16, 8, true, 0, 24});
}

TEST_CASE("attention on the GPU of the last positions matches the CPU", "[attention]") {
  check_case({1, 1, 2, 1, 8, 8, false, 7});
  check_case({2, 13, 4, 2, 8, 16, false, 20});
  check_case({2, 9, 2, 2, 16, 8, true, 15, 8});
  check_case({3, 5, 9, 3, 8, 8, false, 4}, 32 << 10);  // in pieces
}

// More than the scratch memory of one call holds: 4096 sequences and then 4, 32768 heads and then 232.
TEST_CASE("attention on the GPU in pieces matches the CPU", "[attention]") {
  check_case({4100, 3, 8, 4, 8, 8});
  check_case({1, 2, 33000, 33000, 8, 8});
}

// A square of these takes 32 KiB a query head. Pieces begin at log-sum-exps on any multiple of 4 bytes.
TEST_CASE("attention on the GPU cut by heads matches the CPU for every size of a group", "[attention]") {
  for (const std::int64_t group : {1, 2, 4}) {
    for (const std::int64_t pieces_of_groups : {1, 2, 3}) {
      const std::int64_t most = pieces_of_groups * group * (32 << 10);
      check_case({1, 7, 5 * group, 5, 8, 8}, most);
      check_case({3, 5, 3 * group, 3, 8, 16, true}, most);
    }
  }
  check_case({2, 9, 7, 7, 8, 8}, 1);  // at least one head, however little memory is given
}

TEST_CASE("attention's pieces cover every head of every sequence once and keep to their memory",
          "[attention]") {
  for (const std::int64_t kv_heads : {1, 3, 8}) {
    for (const std::int64_t group : {1, 4}) {
      for (const std::int64_t most : {1 << 15, 5 << 15, 40 << 15}) {
        const AttentionSizes whole{3, 100, 100, kv_heads * group, kv_heads, 64, 64, false};
        std::vector<int> covered(static_cast<std::size_t>(whole.batch * kv_heads));
        for (const AttentionPiece& p : attention_pieces(whole, most)) {
          for (std::int64_t b = p.sequence; b < p.sequence + p.sequences; ++b) {
            for (std::int64_t h = p.kv_head; h < p.kv_head + p.kv_heads; ++h)
              ++covered.at(static_cast<std::size_t>(b * kv_heads + h));
          }
          const bool smallest = p.sequences == 1 && p.kv_heads == 1;
          CHECK((smallest || p.sequences * p.kv_heads * group * (1 << 15) <= most));
        }
        CHECK(covered == std::vector<int>(covered.size(), 1));
      }
    }
  }
}

// Figures of the real library's plans, for an H100: tests/cuda/plans.
TEST_CASE("what attention's backward pass takes of long sequences is known before", "[attention]") {
  constexpr double kGiB = 1 << 30;
  const auto takes = [](std::int64_t seq, std::int64_t heads, std::int64_t kv_heads, bool documents) {
    return static_cast<double>(attention_scratch_bytes({1, seq, seq, heads, kv_heads, 128, 128, documents})) /
           kGiB;
  };
  CHECK(takes(4096, 32, 8, false) < 1.1);
  CHECK(takes(16384, 32, 4, false) == Approx(4160 / 1024.0).epsilon(0.03));
  CHECK(takes(65536, 64, 8, false) == Approx(65792 / 1024.0).epsilon(0.03));
  CHECK(takes(131072, 64, 8, false) > 256);
  CHECK(takes(32768, 32, 32, true) - takes(32768, 32, 32, false) == Approx(2).epsilon(0.01));
  CHECK(longest_bounded_sequence({1, 65536, 65536, 64, 8, 128, 128, false}) == 8192);
  CHECK(longest_bounded_sequence({1, 65536, 65536, 64, 64, 128, 128, false}) == 23168);
}

// What a pass on the GPU takes of the work arena at most, and what the dry run counts.
void check_counted(const Case& c, DType dtype) {
  CAPTURE(c.batch, c.seq, c.heads, c.documents, name_of(dtype));
  GpuBench gpu;
  const std::int64_t rows = c.q_rows(), out = c.heads * c.v_dim;
  Arena counted(Device::kMeta, "work");
  Context dry{.device = Device::kMeta, .modelled = Device::kCuda, .work = &counted};
  const auto side_on = [&](Device device) {
    const auto make = [&](Shape shape, DType of) {
      return device == Device::kCuda ? gpu.zeros(shape, of) : Tensor{nullptr, shape, of, device};
    };
    const Shape fused{c.kv_rows(), c.columns()};
    return Side{make(fused, dtype),
                make({rows, out}, dtype),
                make({rows, c.heads}, accumulator_of(dtype)),
                make({rows, out}, dtype),
                make(fused, dtype),
                c.documents ? make({rows}, DType::kI32) : Tensor{}};
  };
  side_on(Device::kCuda).run(gpu.ctx, c);
  side_on(Device::kMeta).run(dry, c);
  CHECK(counted.used_bytes() == 0);
  CHECK(counted.peak_bytes() >= gpu.ctx.work->peak_bytes());
  dry.modelled = Device::kCpu;
  const std::size_t before = counted.peak_bytes();
  side_on(Device::kMeta).run(dry, c);
  CHECK(counted.peak_bytes() == before);
}

TEST_CASE("the dry run counts at least what attention on a GPU takes of the work arena", "[attention]") {
  for (const Case& c :
       {Case{2, 24, 4, 1, 8, 16}, Case{3, 40, 2, 2, 16, 16, true}, Case{3, 10, 2, 2, 16, 16, true, 30}})
    check_counted(c, DType::kBF16);
  check_counted({2, 24, 4, 1, 7, 5}, DType::kBF16);
  check_counted({2, 600, 2, 2, 8, 8, true}, DType::kF32);
}

TEST_CASE("an engine of cuDNN whose bits differ from call to call is not used", "[attention]") {
  check_case({1, 33, 4, 2, 16, 8});  // the stand-in proposes such a one first
  CHECK(went("attention forward: 1 x 33 positions, 4 query and 2 key heads of 16 and 8: engine 7"));
  CHECK(went("attention backward: 1 x 33 positions, 4 query and 2 key heads of 16 and 8: engine 7"));
  emulation::Settings others_alone = emulation::settings();
  others_alone.steady_attention = false;
  const EmulationScope scope(others_alone);
  check_case({1, 19, 2, 1, 16, 8});
  CHECK(went("attention forward: 1 x 19 positions, 2 query and 1 key heads of 16 and 8: matrix products"));
  CHECK(went("attention backward: 1 x 19 positions, 2 query and 1 key heads of 16 and 8: matrix products"));
}

// As cuDNN 9.19 has it on the A100 and the B200 for heads of 192 and 128.
TEST_CASE("where cuDNN has no backward pass of attention it goes by matrix products", "[attention]") {
  emulation::Settings forward_alone = emulation::settings();
  forward_alone.attention_backward = false;
  const EmulationScope scope(forward_alone);
  check_case({2, 21, 2, 2, 192, 128, true, 0, 64});
  CHECK(went(
      "attention forward: 2 x 21 positions, 2 query and 2 key heads of 192 and 128, documents: engine 7"));
  CHECK(
      went("attention backward: 2 x 21 positions, 2 query and 2 key heads of 192 and 128, documents: "
           "matrix products"));
  check_case({3, 11, 6, 3, 8, 16, true, 4}, 2 * 2 * (32 << 10));  // in pieces of two key heads
}

TEST_CASE("attention on the GPU by matrix products matches the CPU", "[attention]") {
  constexpr SquareBlock kWhole{512, 64};
  check_products({1, 1, 1, 1, 8, 8}, kWhole);
  check_products({2, 13, 2, 2, 8, 8}, kWhole);
  check_products({1, 33, 4, 2, 15, 7, true}, kWhole);             // nothing is a multiple of 8
  check_products({1, 40, 2, 2, 192, 128}, kWhole);                // DeepSeek-V3's heads
  check_products({2, 37, 2, 2, 192, 128, true, 0, 64}, {16, 1});  // inside wider rows
  check_products({2, 24, 6, 2, 128, 128, true}, {9, 2});          // equal heads, three share a key head
  check_products({3, 9, 2, 1, 16, 8, true, 15, 8}, {4, 1});       // the last positions ask
}

TEST_CASE("attention on the GPU by matrix products matches the CPU at every border of its blocks",
          "[attention]") {
  const Case c{1, 17, 6, 3, 8, 16, true};
  for (const std::int64_t queries : {1, 7, 8, 16, 17, 18}) check_products(c, {queries, 2});
  for (const std::int64_t kv_heads : {1, 3, 4}) check_products(c, {9, kv_heads});
}

TEST_CASE("blocks of matrix products keep to their memory, and are never empty", "[attention]") {
  const AttentionSizes whole{1, 4096, 4096, 128, 128, 192, 128, false};
  const SquareBlock usual = square_block(whole, kMostSquareBytes);
  CHECK(usual.queries == 512);
  CHECK(usual.kv_heads == (std::int64_t{1} << 30) / (512 * 4096 * 12 + 4096 * 320 * 4));
  // A sequence of 131072 takes little more than the limit, not 32 GiB.
  const AttentionSizes longer{1, 131072, 131072, 16, 16, 192, 128, false};
  Arena counted(Device::kMeta, "work");
  take_backward_squares(counted, longer, square_block(longer, kMostSquareBytes));
  CHECK(counted.peak_bytes() < (std::size_t{5} << 30) / 4);
  const SquareBlock least = square_block(longer, 1);
  CHECK(least.queries == 1);
  CHECK(least.kv_heads == 1);
  CHECK(square_block({1, 0, 5, 2, 2, 8, 8}, kMostSquareBytes).queries == 1);
}

TEST_CASE("attention on the GPU keeps documents apart", "[attention]") {
  check_case({1, 1, 1, 1, 8, 8, true});
  check_case({2, 37, 4, 2, 16, 16, true});
}

TEST_CASE("attention on the GPU gives the same bits again", "[attention]") {
  const Case c{2, 200, 4, 2, 64, 64};
  GpuBench gpu;
  KernelBench cpu;
  const std::int64_t rows = c.q_rows(), columns = c.columns();
  Side side{gpu.upload(cpu.random({rows, columns}, DType::kBF16)),
            gpu.undefined({rows, c.heads * c.v_dim}, DType::kBF16),
            gpu.undefined({rows, c.heads}, DType::kF32),
            gpu.upload(cpu.random({rows, c.heads * c.v_dim}, DType::kBF16)),
            gpu.zeros({rows, columns}, DType::kBF16),
            {}};
  side.run(gpu.ctx, c);
  const Tensor first = gpu.download(side.d_qkv);
  for (int again = 0; again < 5; ++again) {
    side.run(gpu.ctx, c);
    CHECK(same_bits(gpu.download(side.d_qkv), first));
  }
  constexpr SquareBlock kAtOnce{64, 1};
  side.run_by_products(gpu.ctx, c, kAtOnce);
  const Tensor by_products = gpu.download(side.d_qkv);
  side.run_by_products(gpu.ctx, c, kAtOnce);
  CHECK(same_bits(gpu.download(side.d_qkv), by_products));
}

TEST_CASE("attention on the GPU takes by matrix products what cuDNN cannot be asked", "[attention]") {
  GpuBench gpu;
  const auto run = [&](DType dtype, std::int64_t seq, std::int64_t dim) {
    const Tensor x = gpu.zeros({seq, dim}, dtype), lse = gpu.zeros({seq, 1}, accumulator_of(dtype));
    const HeadView view{x, 0, 1, dim};
    attention_forward(gpu.ctx, AttentionShape::of_sequences(1, seq, 1), {view, view, view, view, {}, lse});
  };
  run(DType::kF32, 4, 8);
  CHECK(went("attention forward: 1 x 4 positions, 1 query and 1 key heads of 8 and 8: matrix products"));
  run(DType::kBF16, 4, 8);  // the same sizes, which cuDNN takes
  if (emulation::emulated())
    CHECK(went("attention forward: 1 x 4 positions, 1 query and 1 key heads of 8 and 8: engine 7"));
  run(DType::kBF16, 4, 12);
  CHECK(went("attention forward: 1 x 4 positions, 1 query and 1 key heads of 12 and 12: matrix products"));
  // Keys behind the last query.
  const Tensor x = gpu.zeros({4, 32}, DType::kBF16), lse = gpu.zeros({2, 2}, DType::kF32);
  const HeadView keys{x, 0, 2, 8}, queries{x.slice(0, 2), 0, 2, 8};
  attention_forward(gpu.ctx, {1, 2, 4, 1, 1}, {queries, keys, keys, queries, {}, lse});
  CHECK(went("attention forward: 1 x 2 of 4 positions, 2 query and 2 key heads of 8 and 8: matrix products"));
}

}  // namespace jevons::test
