// A checker that finds nothing proves nothing: every kind of defect is planted once and must be found, and
// the same code without it must give no finding in any order.
#include "tests/cuda/planted.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <optional>

#include "kernels/core/error.h"
#include "kernels/cuda/runtime.h"
#include "tests/cuda/gpu_bench.h"

namespace jevons::test {
namespace {

using emulation::Order;
using emulation::Settings;
using emulation::Streams;

constexpr int kRows = 8, kCols = 96, kPairs = 200, kExperts = 6;

double element_of_row(std::int64_t i) {
  return static_cast<double>(i % 7);
}

// Runs all four kernels; "" if every result is right, else what is wrong.
std::string run_kernels(Defect defect) {
  KernelBench cpu;
  GpuBench gpu;
  const cudaStream_t stream = cuda::native(gpu.stream);
  const Tensor x = cpu.filled({kRows, kCols}, DType::kF32, element_of_row);
  const Tensor expert = cpu.integers({kPairs}, 0, kExperts);
  const Tensor gx = gpu.upload(x), sums = gpu.undefined({kRows}, DType::kF32);
  const Tensor reversed = gpu.undefined({kRows, kCols}, DType::kF32);
  const Tensor gexpert = gpu.upload(expert), counts = gpu.zeros({kExperts}, DType::kI32);

  row_sums(gx.ptr<float>(), sums.ptr<float>(), kRows, kCols, defect, stream);
  reverse_in_warps(gx.ptr<float>(), reversed.ptr<float>(), kRows * kCols, defect, stream);
  scale_rows(gx.ptr<float>(), kRows, kCols, 2.0f, defect, stream);
  count_experts(gexpert.ptr<std::int32_t>(), counts.ptr<std::int32_t>(), kPairs, defect, stream);

  const std::vector<double> got_sums = to_doubles(gpu.download(sums)),
                            got_counts = to_doubles(gpu.download(counts));
  const std::vector<double> got_reversed = to_doubles(gpu.download(reversed)),
                            scaled = to_doubles(gpu.download(gx));
  std::vector<double> want_counts(kExperts);
  for (double e : to_doubles(expert)) ++want_counts[static_cast<std::size_t>(e)];
  if (got_counts != want_counts) return "wrong counts";
  for (std::int64_t row = 0; row < kRows; ++row) {
    double sum = 0;
    for (std::int64_t col = 0; col < kCols; ++col) {
      const std::int64_t i = row * kCols + col;
      sum += element_of_row(i);
      if (scaled[static_cast<std::size_t>(i)] != 2 * element_of_row(i)) return "wrong product";
      if (got_reversed[static_cast<std::size_t>(i)] != element_of_row(i / 32 * 32 + 31 - i % 32))
        return "wrong order";
    }
    if (got_sums[static_cast<std::size_t>(row)] != sum) return "wrong sum";
  }
  return "";
}

// The first finding; without one, the error or the wrong result that the run ended with; "" if it seemed
// right.
std::string verdict(Defect defect) {
  std::string seen;
  try {
    seen = run_kernels(defect);
  } catch (const Error& error) {
    seen = error.what();
  }
  const std::vector<std::string> findings = emulation::take_findings();
  return findings.empty() ? seen : findings.front();
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("kernels without a defect give right results and no finding in any order") {
  for (Order order : {Order::kNatural, Order::kReverse, Order::kRandom}) {
    for (Streams streams : {Streams::kEager, Streams::kLazy, Streams::kRandom}) {
      for (std::uint64_t seed : {1, 2}) {
        const EmulationScope scope(Settings{.order = order, .streams = streams, .seed = seed});
        CHECK(verdict(Defect::kNone) == "");
      }
    }
  }
}

TEST_CASE("planted defects in kernels are found") {
  struct Case {
    Defect defect;
    const char* checked;  // what the checker says
    const char* plain;    // what an ordinary run in natural order shows; "" if the defect stays unseen
  };
  const Case cases[] = {
      {Defect::kMissingBarrier, "uninitialised read: read of shared memory at planted.cu:", "wrong sum"},
      {Defect::kMissingSecondBarrier, "race: ", "wrong sum"},
      {Defect::kDivergentBarrier, "divergent __syncthreads", "divergent __syncthreads"},
      {Defect::kPastSharedArray, "out of bounds: read of shared memory at planted.cu:", "wrong sum"},
      {Defect::kUnsetSharedElement, "uninitialised read: read of shared memory at planted.cu:", "wrong sum"},
      {Defect::kPastRow, "race: ", "wrong product"},
      {Defect::kPlainCount, "race: ", ""},
      {Defect::kShuffleAsBarrier, "race: read of shared memory at planted.cu:", ""},
      {Defect::kSyncOfHalves, "read of shared memory at planted.cu:", "wrong order"},
      {Defect::kAbsentLane, "a shuffle reads a lane that took no part",
       "a shuffle reads a lane that took no part"},
  };
  const EmulationScope scope(Settings{});
  for (const Case& planted : cases) {
    const std::string seen = verdict(planted.defect);
    INFO("defect " << static_cast<int>(planted.defect) << ": " << seen);
    const std::string expected = emulation::checking() ? planted.checked : planted.plain;
    CHECK((expected.empty() ? seen.empty() : contains(seen, expected)));
  }
}

TEST_CASE("the last row's excess is out of bounds") {
  GpuBench gpu;
  const Tensor x = gpu.zeros({1, kCols}, DType::kF32);
  scale_rows(x.ptr<float>(), 1, kCols, 2.0f, Defect::kPastRow, cuda::native(gpu.stream));
  const std::vector<std::string> findings = emulation::take_findings();
  REQUIRE(findings.empty() == !emulation::checking());
  if (emulation::checking())
    CHECK(contains(findings.front(), "out of bounds: read of global memory at planted.cu:"));
}

TEST_CASE("device memory that nothing has set is uninitialised") {
  GpuBench gpu;
  const Tensor x = gpu.undefined({1, kCols}, DType::kF32), sums = gpu.undefined({1}, DType::kF32);
  row_sums(x.ptr<float>(), sums.ptr<float>(), 1, kCols, Defect::kNone, cuda::native(gpu.stream));
  const std::vector<std::string> findings = emulation::take_findings();
  REQUIRE(findings.empty() == !emulation::checking());
  if (emulation::checking()) CHECK(contains(findings.front(), "uninitialised read: read of global memory"));
}

TEST_CASE("host memory is no argument of a kernel") {
  GpuBench gpu;
  std::vector<float> host(kCols);
  CHECK_THROWS_AS(scale_rows(host.data(), 1, kCols, 2.0f, Defect::kNone, cuda::native(gpu.stream)), Error);
  CHECK(contains(emulation::take_findings().at(0), "pointer argument 0 is not device memory"));
}

namespace {

// Stream `a` sums the rows, stream `b` copies the sums to the host: the sum that the host sees of row 1.
double sum_over_streams(bool stream_waits, bool host_waits) {
  GpuBench gpu;
  KernelBench cpu;
  const Stream b(Device::kCuda);
  const Tensor x = gpu.upload(cpu.filled({kRows, kCols}, DType::kF32, [](std::int64_t) { return 1.0; }));
  const Tensor sums = gpu.zeros({kRows}, DType::kF32);
  const Buffer pinned = Buffer::pinned_for(Device::kCuda, sums.bytes());
  const Tensor host = pinned.view(0, {kRows}, DType::kF32);
  Event summed(Device::kCuda);
  row_sums(x.ptr<float>(), sums.ptr<float>(), kRows, kCols, Defect::kNone, cuda::native(gpu.stream));
  gpu.stream.record(summed);
  if (stream_waits) b.wait(summed);
  copy_async(&b, host, sums);
  if (host_waits) b.synchronise();
  const double seen = host.ptr<float>()[1];
  b.synchronise();
  gpu.stream.synchronise();
  return seen;
}

}  // namespace

TEST_CASE("a stream that does not wait for another is found") {
  for (Streams streams : {Streams::kEager, Streams::kLazy}) {
    const EmulationScope scope(Settings{.streams = streams});
    CHECK(sum_over_streams(true, true) == kCols);
    CHECK(emulation::take_findings().empty());
    const double seen = sum_over_streams(false, true);
    const std::vector<std::string> findings = emulation::take_findings();
    if (streams == Streams::kLazy) CHECK(seen == 0);  // the copy ran before the sums
    REQUIRE(findings.empty() == !emulation::checking());
    if (!findings.empty()) CHECK(contains(findings.front(), "race: "));
  }
}

namespace {

// A kernel on a second stream writes memory that the bench's stream allocates: what the host sees of it.
double write_of_new_memory(bool kernel_waits) {
  GpuBench gpu;
  const Stream other(Device::kCuda);
  const Tensor zero = gpu.zeros({1}, DType::kF32);
  const Buffer memory = Buffer::in_order_of(gpu.stream, sizeof(float));
  const Tensor cell = memory.view(0, {1}, DType::kF32);
  Event allocated(Device::kCuda);
  gpu.stream.record(allocated);
  if (kernel_waits) other.wait(allocated);
  copy_cell({zero.ptr<float>(), cell.ptr<float>()}, cuda::native(other));
  other.synchronise();
  return to_doubles(gpu.download(cell)).front();
}

// A kernel reads memory that the bench's stream frees; `frees_first`: the host gives the free before the
// kernel.
void read_of_freed_memory(bool frees_first, bool on_the_same_stream) {
  GpuBench gpu;
  const Stream other(Device::kCuda);
  const cudaStream_t reader = cuda::native(on_the_same_stream ? gpu.stream : other);
  const Tensor to = gpu.zeros({1}, DType::kF32);
  std::optional<Buffer> memory = Buffer::in_order_of(gpu.stream, sizeof(float));
  const Tensor cell = memory->view(0, {1}, DType::kF32);
  zero_async(&gpu.stream, cell);
  Event set(Device::kCuda);
  gpu.stream.record(set);
  other.wait(set);
  if (frees_first) memory.reset();
  copy_cell({cell.ptr<float>(), to.ptr<float>()}, reader);
  memory.reset();
}

}  // namespace

TEST_CASE("a stream that does not wait for memory that another allocates is found") {
  for (Streams streams : {Streams::kEager, Streams::kLazy, Streams::kRandom}) {
    const EmulationScope scope(Settings{.streams = streams});
    CHECK(write_of_new_memory(true) == 0);
    CHECK(emulation::take_findings().empty());
    const double seen = write_of_new_memory(false);
    const std::vector<std::string> findings = emulation::take_findings();
    if (streams == Streams::kLazy) CHECK(std::isnan(seen));  // the kernel ran before the allocation
    REQUIRE(findings.empty() == !emulation::checking());
    if (!findings.empty())
      CHECK(contains(findings.front(), "use before allocation: write to global memory at planted.cu:"));
  }
}

TEST_CASE("memory that is used after its free in the order of streams is found") {
  for (Streams streams : {Streams::kEager, Streams::kLazy, Streams::kRandom}) {
    const EmulationScope scope(Settings{.streams = streams});
    const auto finding = [](bool frees_first, bool on_the_same_stream) -> std::string {
      read_of_freed_memory(frees_first, on_the_same_stream);
      const std::vector<std::string> findings = emulation::take_findings();
      return findings.empty() ? "" : findings.front();
    };
    CHECK(finding(false, true) == "");
    if (!emulation::checking()) continue;
    CHECK(contains(finding(true, true), "use after free: read of global memory at planted.cu:"));
    // Of another stream, either may come first.
    for (bool frees_first : {false, true}) {
      const std::string seen = finding(frees_first, false);
      INFO(seen);
      CHECK((contains(seen, "use after free: read of global memory at planted.cu:") ||
             contains(seen, "race: free of global memory")));
    }
  }
}

TEST_CASE("memory that is freed in the order of a stream is no argument of what comes later") {
  GpuBench gpu;
  float* freed = nullptr;
  freed =
      Buffer::in_order_of(gpu.stream, kCols * sizeof(float)).view(0, {1, kCols}, DType::kF32).ptr<float>();
  CHECK_THROWS_AS(scale_rows(freed, 1, kCols, 2.0f, Defect::kNone, cuda::native(gpu.stream)), Error);
  CHECK(contains(emulation::take_findings().at(0), "pointer argument 0 is not device memory"));
}

TEST_CASE("memory that an arena has given back, and addresses that have none yet, are found") {
  GpuBench gpu;
  const cudaStream_t stream = cuda::native(gpu.stream);
  const Tensor to = gpu.zeros({1}, DType::kF32);
  float* given_back = nullptr;
  {
    Arena arena(Device::kCuda, "arena", &gpu.stream);
    given_back = arena.alloc({1}, DType::kF32).ptr<float>();
    float* const beyond = given_back + arena.held_bytes() / sizeof(float);
    CHECK_THROWS_AS(scale_rows(beyond, 1, kCols, 2.0f, Defect::kNone, stream), Error);
    CHECK(contains(emulation::take_findings().at(0), "pointer argument 0 is not device memory"));
    copy_cell({beyond, to.ptr<float>()}, stream);
    gpu.stream.synchronise();
    const std::vector<std::string> findings = emulation::take_findings();
    REQUIRE(findings.empty() == !emulation::checking());
    if (!findings.empty())
      CHECK(contains(findings[0], "out of bounds: read of global memory at planted.cu:"));
  }
  CHECK_THROWS_AS(scale_rows(given_back, 1, kCols, 2.0f, Defect::kNone, stream), Error);
  CHECK(contains(emulation::take_findings().at(0), "pointer argument 0 is not device memory"));
  copy_cell({given_back, to.ptr<float>()}, stream);
  gpu.stream.synchronise();
  const std::vector<std::string> findings = emulation::take_findings();
  REQUIRE(findings.empty() == !emulation::checking());
  if (!findings.empty()) CHECK(contains(findings[0], "use after free: read of global memory at planted.cu:"));
}

TEST_CASE("a host that reads before it synchronises is found") {
  const EmulationScope scope(Settings{.streams = Streams::kLazy});
  CHECK(sum_over_streams(true, true) == kCols);
  CHECK(sum_over_streams(true, false) == 0);
  CHECK(emulation::take_findings().empty());
}

TEST_CASE("a host that touches device memory faults at the spot") {
  const EmulationScope scope(Settings{});
  GpuBench gpu;
  const Tensor x = gpu.zeros({4}, DType::kF32);
  const pid_t child = fork();
  if (child == 0) {
    std::signal(SIGSEGV, SIG_DFL);
    _exit(static_cast<volatile float*>(x.ptr<float>())[0] == 0 ? 0 : 1);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WIFSIGNALED(status));
  CHECK(WTERMSIG(status) == SIGSEGV);
}

}  // namespace jevons::test
