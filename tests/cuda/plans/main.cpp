// Plans of attention by the real cuDNN for GPUs that are not there: from a description of the device, with a
// driver that only pretends to load modules (fake_driver.sh). cuDNN's heuristics choose an engine and its
// kernels are compiled; nothing is executed. Prints which way attention goes on each architecture, forward
// and backward: by an engine of cuDNN, or by matrix products where it has no plan. Exits with 0 if every
// attention of the presets goes by cuDNN.
#include <fmt/core.h>

#include <optional>
#include <set>

#include "kernels/attention_scratch.h"
#include "kernels/core/error.h"
#include "kernels/cuda/attention_graph.h"
#include "tests/support/presets.h"

namespace jevons {
namespace {

struct Gpu {
  const char* name;
  int version, multiprocessors, shared_memory;  // shared memory: most that a block may ask for, bytes
};
constexpr Gpu kGpus[] = {{"A100", 800, 108, 166912}, {"H100", 900, 132, 232448}, {"B200", 1000, 148, 232448}};

cuda::CudnnDescriptor description_of(const Gpu& gpu) {
  const std::string json = fmt::format(
      R"({{"deviceVer":{},"deviceName":"{}","multiProcessorCount":{},"smClockRateKHz":1980000,)"
      R"("memClockRateKHz":2619000,"l2CacheSize":41943040,"warpSize":32,"maxGridSize":[2147483647,65535,65535],)"
      R"("maxBlockSize":[1024,1024,64],"regsPerBlock":65536,"maxRegistersPerSM":65536,)"
      R"("maxSharedMemoryPerBlock":49152,"maxSharedMemoryPerBlockOptin":{},"reservedSharedMemoryPerBlock":1024,)"
      R"("maxCtasPerSM":32,"maxThreadsPerBlock":1024,"maxThreadsPerSM":2048,"pciDeviceId":0,"isTccDriver":0,)"
      R"("supportCoopLaunch":1,"totalGlobalMem":85024112640,"cudaDeviceId":0,"driverVer":13000}})",
      gpu.version, gpu.name, gpu.multiprocessors, gpu.shared_memory);
  cuda::CudnnDescriptor description(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
  description.set(CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, std::span<const char>(json))
      .finalize();
  return description;
}

// As the attention layer calls it: q, k and v in one fused matrix, one sequence.
cuda::AttentionProblem problem_of(std::int64_t seq, std::int64_t heads, std::int64_t kv_heads,
                                  std::int64_t dim) {
  cuda::AttentionProblem p;
  p.batch = 1, p.q_len = p.kv_len = seq, p.heads = heads, p.kv_heads = kv_heads, p.dim = p.v_dim = dim;
  p.q = p.k = p.v = {(heads + 2 * kv_heads) * dim, dim};
  p.o = {heads * dim, dim}, p.lse_row = heads;
  return p;
}

// The last positions ask, as do those of one rank of several that has the keys before them.
cuda::AttentionProblem last_positions(std::int64_t q_len, cuda::AttentionProblem p) {
  p.q_len = q_len;
  return p;
}

// Heads of 128 + 64 columns with values of 128, which lie beside the 128 of the keys (DeepSeek-V3).
cuda::AttentionProblem latent(std::int64_t seq, std::int64_t heads) {
  cuda::AttentionProblem p = problem_of(seq, heads, heads, 192);
  p.v_dim = 128;
  p.q = p.k = {heads * 192, 192};
  p.v = {heads * 256, 256};
  p.o = {heads * 128, 128};
  return p;
}

std::set<cuda::AttentionProblem> problems() {
  std::set<cuda::AttentionProblem> all;
  for (const ModelConfig& c :
       {test::llama3_8b(), test::llama3_70b(), test::llama3_405b(), test::mixtral_8x7b(), test::olmoe_1b_7b(),
        test::qwen3_30b_a3b(), test::qwen3_235b_a22b()}) {
    all.insert(problem_of(c.seq_len, c.num_heads, c.num_kv_heads, c.head_dim));
  }
  cuda::AttentionProblem documents = *all.begin();
  documents.documents = true;
  all.insert(documents);
  all.insert(last_positions(1000, documents));
  all.insert(problem_of(256, 4, 4, 64));
  for (const std::int64_t seq : {200, 5000, 9999}) all.insert(problem_of(seq, 8, 2, 128));
  all.insert(problem_of(32768, 8, 1, 128));
  all.insert(last_positions(1024, problem_of(4096, 8, 2, 128)));
  all.insert(last_positions(200, problem_of(5000, 4, 4, 64)));
  cuda::AttentionProblem piece = *all.begin();  // every other query head
  piece.lse_row = 2 * piece.heads;
  all.insert(piece);
  return all;
}

// What the dry run counts is enough, and not much more than that.
void check_scratch(const std::string& what, const cuda::AttentionProblem& p, const cuda::CudnnPlan& forward,
                   const cuda::CudnnPlan& backward) {
  const std::size_t counted = attention_backward_workspace(
      {p.batch, p.q_len, p.kv_len, p.heads, p.kv_heads, p.dim, p.v_dim, p.documents});
  const std::size_t asked = backward.workspace_bytes();
  ENSURE(forward.workspace_bytes() <= 4096, "{}: forward asks for {}", what, forward.workspace_bytes());
  ENSURE(asked <= counted && counted <= asked + asked / 8 + (1 << 20),
         "{}: backward asks for {}, counted are {}", what, asked, counted);
}

std::string way_of(const std::optional<cuda::CudnnPlan>& plan) {
  if (!plan) return "matrix products";
  return fmt::format("engine {} with {:.1f} MiB", plan->engine(),
                     static_cast<double>(plan->workspace_bytes()) / (1 << 20));
}

enum class Must { kHavePlans, kGoForward };

void plan(const Gpu& gpu, const cuda::CudnnTarget& target, cuda::AttentionProblem p, Must must) {
  const std::string what =
      fmt::format("{}: attention of {} of {} positions, {} and {} heads of {} and {}{}", gpu.name, p.q_len,
                  p.kv_len, p.heads, p.kv_heads, p.dim, p.v_dim, p.documents ? ", documents" : "");
  const auto forward = cuda::CudnnPlan::find(attention_forward_graph(p), target);
  p.d_o = p.o, p.dq = p.q, p.dk = p.k, p.dv = p.v;
  const auto backward = cuda::CudnnPlan::find(attention_backward_graph(p), target);
  fmt::print("{}: forward {}, backward {}\n", what, way_of(forward), way_of(backward));
  ENSURE(forward && (backward || must == Must::kGoForward), "{}: cuDNN has no plan", what);
  if (backward) check_scratch(what, p, *forward, *backward);
}

int run() {
  try {
    for (const Gpu& gpu : kGpus) {
      const cuda::CudnnDescriptor description = description_of(gpu);
      const cuda::CudnnTarget target{nullptr, description.get()};
      for (const cuda::AttentionProblem& p : problems()) plan(gpu, target, p, Must::kHavePlans);
      // cuDNN 9.19 goes back through them on Hopper alone.
      const Must must = gpu.version == 900 ? Must::kHavePlans : Must::kGoForward;
      plan(gpu, target, latent(4096, 16), must);
      plan(gpu, target, last_positions(1024, latent(4096, 16)), must);
    }
  } catch (const Error& error) {
    fmt::print(stderr, "{}\n", error.what());
    return static_cast<int>(error.code());
  }
  return 0;
}

}  // namespace
}  // namespace jevons

int main() {
  return jevons::run();
}
