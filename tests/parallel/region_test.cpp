// Regions: forward, and the backward as its adjoint: <A x, y> = <x, A^T y> over all ranks (Hewett and Grady).
#include "parallel/region.h"

#include <cmath>
#include <string>

#include "kernels/core/error.h"
#include "tests/support/catch.h"
#include "tests/support/ranks.h"
#include "tests/support/test_bed.h"

namespace jevons {

namespace {

constexpr std::int64_t kRows = 8, kCols = 5;  // rows of the whole matrix

double dot(Communicator& world, Tensor a, Tensor b) {
  double sum = 0;
  for (std::int64_t i = 0; i < a.numel(); ++i) sum += a.ptr<double>()[i] * b.ptr<double>()[i];
  world.all_reduce({&sum, {1}, DType::kF64, Device::kCpu}).wait();
  return sum;
}

std::string on_rank(const char* name, Communicator& world) {
  return fmt::format("{}.{}", name, world.rank());
}

}  // namespace

TEST_CASE("gather brings the rows of all ranks by rank", "[region][ranks]") {
  const int ranks = GENERATE(1, 2, 4);
  test::run_ranks(ranks, [](Communicator& world) {
    test::TestBed bed(world, DType::kF64, {.tp = world.size()});
    const std::int64_t rows = kRows / world.size();
    const Tensor whole = bed.random({kRows, kCols}, "x");
    const Tensor y =
        Gather(bed.mesh.tp())
            .forward(bed.ctx, whole.slice(world.rank() * rows, (world.rank() + 1) * rows), bed.stash);
    ENSURE(y.shape == whole.shape, "{}", y.to_string());
    for (std::int64_t i = 0; i < y.numel(); ++i)
      ENSURE(test::element(y, i) == test::element(whole, i), "element {}", i);
  });
}

TEST_CASE("reduce-scatter sums partial rows and keeps this rank's", "[region][ranks]") {
  const int ranks = GENERATE(1, 2, 4);
  test::run_ranks(ranks, [](Communicator& world) {
    test::TestBed bed(world, DType::kF32, {.tp = world.size()});
    const Tensor x = bed.tensor({kRows, kCols}, DType::kF32);
    for (std::int64_t i = 0; i < x.numel(); ++i)
      x.ptr<float>()[i] = static_cast<float>(i + 1000 * world.rank());
    const Tensor y = ReduceScatter(bed.mesh.tp()).forward(bed.ctx, x, bed.stash);
    ENSURE((y.shape == Shape{kRows / world.size(), kCols}), "{}", y.to_string());
    const int n = world.size();
    for (std::int64_t i = 0; i < y.numel(); ++i) {
      const auto wanted = static_cast<float>(n * (world.rank() * y.numel() + i) + 1000 * n * (n - 1) / 2);
      ENSURE(y.ptr<float>()[i] == wanted, "element {}", i);
    }
  });
}

TEST_CASE("backward is the adjoint of forward", "[region][ranks]") {
  const int ranks = GENERATE(1, 2, 4);
  test::run_ranks(ranks, [](Communicator& world) {
    test::TestBed bed(world, DType::kF64, {.tp = world.size()});
    const std::int64_t rows = kRows / world.size();
    const Tensor shard = bed.random({rows, kCols}, on_rank("shard", world));
    const Tensor whole = bed.random({kRows, kCols}, on_rank("whole", world));
    const Gather gather(bed.mesh.tp());
    const ReduceScatter scatter(bed.mesh.tp());
    const auto same = [](double a, double b) { return std::abs(a - b) <= 1e-12 * std::abs(a); };
    ENSURE(same(dot(world, gather.forward(bed.ctx, shard, bed.stash), whole),
                dot(world, shard, gather.backward(bed.ctx, whole, bed.work))),
           "gather");
    ENSURE(same(dot(world, scatter.forward(bed.ctx, whole, bed.stash), shard),
                dot(world, whole, scatter.backward(bed.ctx, shard, bed.work))),
           "reduce-scatter");
  });
}

TEST_CASE("a group of one returns its input; rows that do not split are refused", "[region][ranks]") {
  test::run_ranks(1, [](Communicator& world) {
    test::TestBed bed(world, DType::kF64);
    const Tensor x = bed.random({3, kCols}, "x");
    ENSURE(Gather(bed.mesh.tp()).forward(bed.ctx, x, bed.stash).data == x.data, "gather");
    ENSURE(ReduceScatter(bed.mesh.tp()).forward(bed.ctx, x, bed.stash).data == x.data, "reduce-scatter");
  });
  CHECK_THROWS_AS(test::run_ranks(2,
                                  [](Communicator& world) {
                                    test::TestBed bed(world, DType::kF64, {.tp = 2});
                                    const Tensor x = bed.random({3, kCols}, "x");
                                    ReduceScatter(bed.mesh.tp()).forward(bed.ctx, x, bed.stash);
                                  }),
                  Error);
}

}  // namespace jevons
