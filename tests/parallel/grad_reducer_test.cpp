// Gradient sums, the global norm and the spread of updated weights, for both ZeRO stages on many layouts.
#include "parallel/bucket_reducer.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "kernels/core/error.h"
#include "parallel/meta/meta_communicator.h"
#include "tests/support/catch.h"
#include "tests/support/ranks.h"
#include "tests/support/test_bed.h"

namespace jevons {

namespace {

constexpr int kExperts = 4;

// Five units: of one weight each, and the experts.
constexpr std::int64_t kUnits = 5;

void declare(test::TestBed& bed) {
  bed.store.add({.name = "table", .shape = {24, 6}, .tp_dim = 0});
  bed.store.begin_unit();
  bed.store.add({.name = "out", .shape = {6, 8}, .tp_dim = 1});
  bed.store.begin_unit();
  bed.store.add({.name = "norm", .shape = {7}, .keep_f32 = true});
  bed.store.begin_unit();
  bed.store.add({.name = "router", .shape = {4, 6}});
  bed.store.begin_unit();
  const int local = kExperts / bed.mesh.ep().size(), first = local * bed.mesh.ep().rank();
  for (int e = first; e < first + local; ++e) {
    bed.store.add({.name = fmt::format("experts.{}", e), .shape = {5, 6}, .expert = true});
  }
  bed.store.allocate();
}

std::int64_t global_index(const Param& param, std::int64_t i) {
  if (param.spec.shape.ndim() == 1) return param.tp_offset + i;
  const std::int64_t cols = param.local_shape[1];
  const std::int64_t row = i / cols + (param.spec.tp_dim == 0 ? param.tp_offset : 0);
  return row * param.spec.shape[1] + i % cols + (param.spec.tp_dim == 1 ? param.tp_offset : 0);
}

// What one rank contributes to a gradient: small integers, so that sums are exact in any order.
double contribution(const std::string& name, std::int64_t index, int part) {
  return static_cast<double>((hash_name(name) + static_cast<std::uint64_t>(7 * index + 13 * part)) % 19) - 9;
}

double expected_sum(const std::string& name, std::int64_t index, int parts) {
  double sum = 0;
  for (int part = 0; part < parts; ++part) sum += contribution(name, index, part);
  return sum;
}

std::int64_t unit_of(ParamId id) {
  return std::min(static_cast<std::int64_t>(id), kUnits - 1);
}

void fill_gradients(ParamStore& store, std::int64_t unit) {
  for (ParamId id = 0; id < store.params().size(); ++id) {
    if (unit_of(id) != unit) continue;
    const Param& param = store.params()[id];
    const int part = store.groups()[store.group_of(id)].comm->rank();
    const Tensor grad = store.grad(id);
    for (std::int64_t i = 0; i < grad.numel(); ++i) {
      grad.ptr<float>()[i] = static_cast<float>(contribution(param.spec.name, global_index(param, i), part));
    }
  }
}

void fill_gradients(ParamStore& store) {
  for (std::int64_t unit = 0; unit < kUnits; ++unit) fill_gradients(store, unit);
}

// Gradients become complete unit by unit, as in a backward pass; until then they are something else. Sums
// that start too early, or of the wrong group, are wrong.
void fill_and_start_by_unit(test::TestBed& bed, BucketReducer& sync) {
  for (ParamId id = 0; id < bed.store.params().size(); ++id) test::fill_normal(bed.store.grad(id), "early");
  for (std::int64_t unit = kUnits - 1; unit > 0; --unit) {
    fill_gradients(bed.store, unit);
    sync.start_unit(bed.ctx, unit);
  }
}

// The norm from the global weights alone; `parts_of` says over how many ranks each weight's gradient is
// summed.
double expected_norm(const Layout& layout) {
  const int tokens = layout.dp * layout.tp;
  double squares = 0;
  const auto add = [&](const std::string& name, std::int64_t numel, int parts) {
    for (std::int64_t i = 0; i < numel; ++i) squares += std::pow(expected_sum(name, i, parts), 2);
  };
  add("table", 24 * 6, layout.dp);
  add("out", 6 * 8, layout.dp);
  add("norm", 7, tokens);
  add("router", 24, tokens);
  for (int e = 0; e < kExperts; ++e) add(fmt::format("experts.{}", e), 30, layout.edp());
  return std::sqrt(squares);
}

// Of the groups whose first unit is `from` or a later one.
void check_sums(test::TestBed& bed, const BucketReducer& sync, std::int64_t from) {
  ParamStore& store = bed.store;
  for (ParamId id = 0; id < store.params().size(); ++id) {
    if (store.groups()[store.group_of(id)].first_unit < from) continue;
    const Param& param = store.params()[id];
    const std::size_t index = store.group_of(id);
    const FlatRange range = sync.update_range(index);
    const int parts = store.groups()[index].comm->size();
    for (std::int64_t i = 0; i < param.local_shape.numel(); ++i) {
      const std::int64_t flat = param.flat_begin + i;
      if (flat < range.begin || flat >= range.begin + range.numel) continue;
      const double got = test::element(store.grad(id), i);
      ENSURE(got == expected_sum(param.spec.name, global_index(param, i), parts), "{}[{}] is {}",
             param.spec.name, i, got);
    }
  }
}

// As the optimizer leaves it: 0 in this rank's range. zero_others must clear the rest, and nothing else.
void check_zeroing(test::TestBed& bed, BucketReducer& sync) {
  const std::span<ParamGroup> groups = bed.store.groups();
  fill_gradients(bed.store);
  std::vector<double> before;
  const auto inside = [&](const auto& visit) {
    for (std::size_t g = 0; g < groups.size(); ++g) {
      const FlatRange range = sync.update_range(g);
      for (std::int64_t i = range.begin; i < range.begin + range.numel; ++i)
        visit(groups[g].grads.ptr<float>()[i]);
    }
  };
  inside([&](float g) { before.push_back(g); });
  sync.zero_others(bed.ctx);
  std::size_t at = 0;
  inside([&](float& g) {
    ENSURE(g == before[at++], "a gradient of this rank's own range was changed");
    g = 0;
  });
  for (const ParamGroup& group : groups) {
    for (const float g : group.grads.span<float>()) ENSURE(g == 0, "a gradient was left behind");
  }
}

// Every rank writes only its own range; after the gather all elements must have been written, padding still
// zero.
void check_gather(test::TestBed& bed, BucketReducer& sync, std::int64_t bucket_bytes) {
  ParamStore& store = bed.store;
  store.initialize(1);
  for (std::size_t g = 0; g < store.groups().size(); ++g) {
    const FlatRange range = sync.update_range(g);
    for (std::int64_t i = range.begin; i < range.begin + range.numel; ++i)
      store.groups()[g].weights.ptr<float>()[i] *= 2;
  }
  sync.gather_weights(bed.ctx);
  store.await_weights();
  test::TestBed fresh(bed.mesh.world(), DType::kF32, bed.mesh.layout(), Device::kCpu, bucket_bytes);
  declare(fresh);
  fresh.store.initialize(1);
  for (std::size_t g = 0; g < store.groups().size(); ++g) {
    const ParamGroup& group = store.groups()[g];
    for (std::int64_t i = 0; i < group.numel; ++i) {
      const float wanted = 2 * fresh.store.groups()[g].weights.ptr<float>()[i];
      ENSURE(group.weights.ptr<float>()[i] == wanted, "group {} element {}", g, i);
    }
  }
}

}  // namespace

TEST_CASE("gradients are summed over the right ranks and the norm counts each parameter once",
          "[grad_reducer][ranks]") {
  const auto layout =
      GENERATE(Layout{}, Layout{.dp = 2}, Layout{.tp = 2}, Layout{.dp = 2, .ep = 2}, Layout{.dp = 2, .tp = 2},
               Layout{.dp = 2, .tp = 2, .ep = 2}, Layout{.dp = 2, .tp = 2, .ep = 4},
               Layout{.dp = 4, .tp = 2, .ep = 4}, Layout{.dp = 3});
  const int zero_stage = GENERATE(0, 1);
  const std::int64_t bucket_bytes = GENERATE(std::int64_t{1}, test::kOneBucket);
  CAPTURE(layout.to_string(), zero_stage, bucket_bytes);
  test::run_ranks(layout.world(), [&](Communicator& world) {
    test::TestBed bed(world, DType::kF32, layout, Device::kCpu, bucket_bytes);
    declare(bed);
    BucketReducer sync(bed.store, zero_stage);
    for (int step = 0; step < 2; ++step) {  // zeroing leaves nothing of the first step behind
      bed.store.zero_grads(bed.ctx);
      fill_and_start_by_unit(bed, sync);
      if (test::ranks_are_threads()) check_sums(bed, sync, 1);  // done when they have started
      fill_gradients(bed.store, 0);
      sync.finish(bed.ctx);
      check_sums(bed, sync, 0);
      const double norm = sync.global_norm(bed.ctx), wanted = expected_norm(layout);
      ENSURE(std::abs(norm - wanted) <= 1e-12 * wanted, "norm {}, expected {}", norm, wanted);
    }
    check_zeroing(bed, sync);
    check_gather(bed, sync, bucket_bytes);
  });
}

TEST_CASE("update ranges: all of a group or this rank's shard", "[grad_reducer][ranks]") {
  test::run_ranks(2, [](Communicator& world) {
    test::TestBed bed(world, DType::kF32, {.dp = 2});
    declare(bed);
    const std::int64_t numel = bed.store.groups()[0].numel;
    const FlatRange all = BucketReducer(bed.store, 0).update_range(0),
                    part = BucketReducer(bed.store, 1).update_range(0);
    ENSURE(all.begin == 0 && all.numel == numel, "stage 0");
    ENSURE(part.begin == numel / 2 * world.rank() && part.numel == numel / 2, "stage 1");
  });
}

TEST_CASE("a unit twice before finish, and an unknown stage, are refused", "[grad_reducer]") {
  MetaCommunicator alone(0, 1);
  test::TestBed bed(alone, DType::kF32);
  declare(bed);
  CHECK_THROWS_AS(BucketReducer(bed.store, 2), Error);
  BucketReducer sync(bed.store, 1);
  sync.start_unit(bed.ctx, kUnits - 1);
  CHECK_THROWS_AS(sync.start_unit(bed.ctx, kUnits - 1), Error);
  sync.finish(bed.ctx);
  sync.start_unit(bed.ctx, kUnits - 1);
  sync.finish(bed.ctx);
}

TEST_CASE("a dry run counts the wire bytes of gradients and weights", "[grad_reducer]") {
  MetaCommunicator world(0, 4);
  test::TestBed bed(world, DType::kBF16, {.dp = 4}, Device::kMeta);
  bed.store.add({.name = "w", .shape = {64, 100}});
  bed.store.allocate();
  WorkMeter meter;
  bed.mesh.set_listener(&meter);
  BucketReducer sync(bed.store, 1);
  sync.finish(bed.ctx);
  CHECK(meter[WorkKind::kWire].bytes == 6400.0 * 3 / 4 * 4);  // fp32
  sync.gather_weights(bed.ctx);
  CHECK(meter[WorkKind::kWire].bytes == 6400.0 * 3 / 4 * (4 + 2));  // and bf16
  CHECK(sync.global_norm(bed.ctx) == 0);
}

}  // namespace jevons
