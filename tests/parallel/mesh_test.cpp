// Layouts: which ranks form which group, and what a wrong layout is told.
#include "parallel/mesh.h"

#include <vector>

#include "kernels/core/error.h"
#include "parallel/meta/meta_communicator.h"
#include "tests/support/catch.h"
#include "tests/support/ranks.h"

namespace jevons {

namespace {

std::string complaint(const Layout& layout, int world_size, const LayoutLimits& limits = {}) {
  try {
    validate_layout(layout, world_size, limits);
  } catch (const Error& error) {
    CHECK(error.code() == ExitCode::kUsage);
    return error.what();
  }
  return "";
}

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
    Mesh mesh(world, {.dp = 2, .tp = 2, .ep = 2}, {});
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
    Mesh mesh(world, {.dp = 4, .tp = 2, .ep = 4}, {});
    const int r = world.rank(), first = r / 4 * 4;
    ENSURE(mesh.replicas().size() == 4 && mesh.replicas().rank() == r / 2, "dp");
    ENSURE(mesh.tp().size() == 2 && mesh.tp().rank() == r % 2, "tp");
    ENSURE(ranks_of(mesh.ep(), r) == (std::vector<std::int32_t>{first, first + 1, first + 2, first + 3}),
           "ep");
    ENSURE(ranks_of(mesh.edp(), r) == (std::vector<std::int32_t>{r % 4, r % 4 + 4}), "edp");
  });
}

TEST_CASE("a dry run's mesh has the sizes of the whole job", "[mesh]") {
  MetaCommunicator world(777, 2048);
  Mesh mesh(world, {.dp = 256, .tp = 8, .ep = 64}, {.num_experts = 256});
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
  Mesh mesh(world, {.dp = 2, .tp = 2, .ep = 2}, {});
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

TEST_CASE("a wrong layout is told what would work", "[mesh]") {
  const LayoutLimits limits{.num_heads = 8,
                            .num_kv_heads = 2,
                            .num_experts = 8,
                            .seq_len = 256,
                            .vocab_size = 258,
                            .ffn_hidden_size = 384};
  CHECK(complaint({.dp = 2, .tp = 2, .ep = 4}, 4, limits).empty());
  CHECK(complaint({.dp = 3, .tp = 2}, 4) ==
        "parallel: dp*tp = 3*2 = 6 but 4 workers were started; dp 2 would fit, or start 6 workers");
  CHECK(complaint({.dp = 2, .tp = 3}, 4) ==
        "parallel: dp*tp = 2*3 = 6 but 4 workers were started; tp 2 would fit, or start 6 workers");
  CHECK(complaint({.dp = 1, .tp = 2}, 4) ==
        "parallel: dp*tp = 1*2 = 2 but 4 workers were started; dp 2 or tp 4 would fit, or start 2 workers");
  CHECK(complaint({.dp = 2, .tp = 2}, 1) ==
        "parallel: dp*tp = 2*2 = 4 but 1 worker was started; start 4 workers");
  CHECK(complaint({.dp = 2, .tp = 3}, 6, limits) ==
        "parallel.tp: 3 does not divide model.num_heads = 8; tp 1, 2 would fit");
  CHECK(complaint({.tp = 4}, 4, limits) ==
        "parallel.tp: 4 does not divide model.num_kv_heads = 2; tp 1, 2 would fit");
  CHECK(complaint({.dp = 4, .ep = 3}, 4, limits) ==
        "parallel.ep: 3 does not divide dp*tp = 4; ep 1, 2, 4 would fit");
  CHECK(complaint({.dp = 16, .ep = 16}, 16, limits) ==
        "parallel.ep: 16 does not divide model.moe.num_experts = 8; ep 1, 2, 4, 8 would fit");
  CHECK(complaint({.dp = 0}, 1) == "parallel.dp: must be at least 1, is 0");
  CHECK(complaint({.pp = 2}, 2).find("not in this version") != std::string::npos);
  CHECK(complaint({.cp = 2}, 2).find("not in this version") != std::string::npos);
}

}  // namespace jevons
