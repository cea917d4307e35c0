// Layouts: which ranks form which group, and what a wrong layout is told.
#include "parallel/mesh.h"

#include <vector>

#include "kernels/core/error.h"
#include "parallel/meta/meta_communicator.h"
#include "tests/support/catch.h"
#include "tests/support/ranks.h"

namespace jevons {

namespace {

// World ranks of a group, in its order.
std::vector<std::int32_t> ranks_of(Communicator& group, int world_rank) {
  std::vector<std::int32_t> mine{world_rank}, all(static_cast<std::size_t>(group.size()));
  const auto view = [](std::vector<std::int32_t>& v) {
    return Tensor{v.data(), {static_cast<std::int64_t>(v.size())}, DType::kI32, Device::kCpu};
  };
  group.all_gather(view(mine), view(all)).wait();
  return all;
}

}  // namespace

TEST_CASE("groups of dp 2, tp 2, ep 2", "[mesh][ranks]") {
  test::run_ranks(4, [](Communicator& world) {
    Mesh mesh(world, {.dp = 2, .tp = 2, .ep = 2});
    const int r = world.rank();
    using Ranks = std::vector<std::int32_t>;
    ENSURE(ranks_of(mesh.tp(), r) == (r < 2 ? Ranks{0, 1} : Ranks{2, 3}), "tp");
    ENSURE(ranks_of(mesh.replicas(), r) == (r % 2 == 0 ? Ranks{0, 2} : Ranks{1, 3}), "replicas");
    ENSURE(ranks_of(mesh.ep(), r) == (r < 2 ? Ranks{0, 1} : Ranks{2, 3}), "ep");
    ENSURE(ranks_of(mesh.edp(), r) == (r % 2 == 0 ? Ranks{0, 2} : Ranks{1, 3}), "edp");
    ENSURE(ranks_of(mesh.stage(), r) == (Ranks{0, 1, 2, 3}), "stage");
  });
}

TEST_CASE("ep folds over dp and tp together", "[mesh][ranks]") {
  test::run_ranks(8, [](Communicator& world) {
    Mesh mesh(world, {.dp = 4, .tp = 2, .ep = 4});
    const int r = world.rank(), first = r / 4 * 4;
    ENSURE(mesh.replicas().size() == 4 && mesh.replicas().rank() == r / 2, "dp");
    ENSURE(mesh.tp().size() == 2 && mesh.tp().rank() == r % 2, "tp");
    ENSURE(ranks_of(mesh.ep(), r) == (std::vector<std::int32_t>{first, first + 1, first + 2, first + 3}),
           "ep");
    ENSURE(ranks_of(mesh.edp(), r) == (std::vector<std::int32_t>{r % 4, r % 4 + 4}), "edp");
  });
}

TEST_CASE("groups of dp 2, cp 2, tp 2", "[mesh][ranks]") {
  test::run_ranks(8, [](Communicator& world) {
    Mesh mesh(world, {.dp = 2, .tp = 2, .ep = 8, .cp = 2});
    const int r = world.rank(), first = r / 4 * 4 + r % 2;
    using Ranks = std::vector<std::int32_t>;
    ENSURE(mesh.dp_rank() == r / 4, "dp");
    ENSURE(ranks_of(mesh.cp(), r) == (Ranks{first, first + 2}), "cp");
    ENSURE(mesh.tp().rank() == r % 2, "tp");
    ENSURE(ranks_of(mesh.replicas(), r) == (Ranks{r % 2, r % 2 + 2, r % 2 + 4, r % 2 + 6}), "replicas");
    ENSURE(mesh.ep().size() == 8, "ep");
  });
}

TEST_CASE("a dry run's mesh has the sizes of the whole job", "[mesh]") {
  MetaCommunicator world(777, 2048);
  Mesh mesh(world, {.dp = 256, .tp = 8, .ep = 64});
  CHECK(mesh.replicas().size() == 256);
  CHECK(mesh.replicas().rank() == 777 / 8);
  CHECK(mesh.tp().rank() == 777 % 8);
  CHECK(mesh.ep().size() == 64);
  CHECK(mesh.ep().rank() == 777 % 64);
  CHECK(mesh.edp().size() == 32);
  CHECK(mesh.edp().rank() == 777 / 64);
  CHECK(mesh.stage().size() == 2048);
}

TEST_CASE("all groups count into one meter", "[mesh]") {
  MetaCommunicator world(0, 4);
  Mesh mesh(world, {.dp = 2, .tp = 2, .ep = 2});
  WorkMeter meter;
  mesh.set_listener(&meter);
  double value = 0;
  const Tensor scalar{&value, {1}, DType::kF64, Device::kCpu};
  for (Communicator* group : mesh.groups()) group->all_reduce(scalar).wait();
  CHECK(meter[WorkKind::kWire].calls == 6);  // the pipeline has one stage
}

TEST_CASE("two layouts of one text are equal", "[mesh]") {
  CHECK(Layout{.dp = 2, .ep = 2}.to_string() == "dp 2, tp 1, ep 2");
  CHECK(Layout{.dp = 2, .pp = 4, .cp = 2}.to_string() == "pp 4, dp 2, cp 2, tp 1, ep 1");
}

TEST_CASE("a layout that is none of the world's is refused", "[mesh]") {
  MetaCommunicator world(0, 4);
  CHECK_THROWS_AS(Mesh(world, {.dp = 2}), Error);
  CHECK_THROWS_AS(Mesh(world, {.dp = 4, .ep = 3}), Error);
  CHECK_NOTHROW(Mesh(world, {.dp = 2, .tp = 2, .ep = 4}));
}

}  // namespace jevons
