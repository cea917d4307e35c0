// Where weights lie, how they are sharded, and that every layout starts from the same ones.
#include "parallel/param_store.h"

#include <sys/mman.h>

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "kernels/core/error.h"
#include "parallel/meta/meta_communicator.h"
#include "tests/support/catch.h"
#include "tests/support/compare.h"
#include "tests/support/ranks.h"
#include "tests/support/test_bed.h"

namespace jevons {

namespace {

constexpr int kExperts = 4;

std::string expert_name(int expert, const char* part) {
  return fmt::format("experts.{}.{}", expert, part);
}

// The weights of a small model, every kind of sharding among them.
void declare(ParamStore& store, int ep_rank, int ep_size) {
  store.add({.name = "embedding", .shape = {12, 6}, .tp_dim = 0});
  store.add({.name = "attn.out", .shape = {6, 8}, .tp_dim = 1, .init_std = 0.01});
  store.add(
      {.name = "norm", .shape = {6}, .init = InitKind::kOnes, .role = ParamRole::kVector, .keep_f32 = true});
  store.add({.name = "bias", .shape = {8}, .tp_dim = 0});
  store.add({.name = "router", .shape = {kExperts, 6}, .keep_f32 = true});
  store.add({.name = "zero", .shape = {3, 5}, .init = InitKind::kZeros});
  for (int e = ep_rank * kExperts / ep_size; e < (ep_rank + 1) * kExperts / ep_size; ++e) {
    store.add({.name = expert_name(e, "gate"), .shape = {5, 6}, .expert = true});
    store.add({.name = expert_name(e, "up"), .shape = {5, 6}, .expert = true});
  }
}

// Every element of the global weights, NaN where a rank has no part of it.
using Assembled = std::map<std::string, std::vector<double>>;

void add_part(Assembled& all, const Param& param, Tensor weight) {
  std::vector<double>& global = all[param.spec.name];
  global.resize(static_cast<std::size_t>(param.spec.shape.numel()), NAN);
  test::for_each_element(param, [&](std::int64_t from, std::int64_t to) {
    global[static_cast<std::size_t>(to)] = test::element(weight, from);
  });
}

// As some rank holds it; throws if two ranks hold different values.
Assembled assemble(const Layout& layout, DType compute, int threads = 1) {
  Assembled all;
  for (const Assembled& part : test::run_ranks(layout.world(), [&](Communicator& world) {
         Mesh mesh(world, layout);
         ParamStore store(mesh, Device::kCpu, compute);
         declare(store, mesh.ep().rank(), mesh.ep().size());
         store.allocate();
         store.initialize(11, threads);
         Assembled mine;
         for (ParamId id = 0; id < store.params().size(); ++id)
           add_part(mine, store.params()[id], store.weight(id));
         return mine;
       })) {
    for (const auto& [name, values] : part) {
      std::vector<double>& global = all[name];
      global.resize(values.size(), NAN);
      for (std::size_t i = 0; i < values.size(); ++i) {
        if (std::isnan(values[i])) continue;
        ENSURE(std::isnan(global[i]) || global[i] == values[i], "{}: two ranks hold {} and {}", name,
               global[i], values[i]);
        global[i] = values[i];
      }
    }
  }
  return all;
}

}  // namespace

TEST_CASE("weights start from the same bits on every layout", "[param_store][ranks]") {
  for (DType compute : {DType::kF32, DType::kBF16, DType::kF64}) {
    const Assembled serial = assemble({}, compute);
    CHECK(serial.size() == 6 + 2 * kExperts);
    for (const auto& [name, values] : serial) {
      for (double value : values) REQUIRE(!std::isnan(value));
    }
    CHECK(assemble({.dp = 2}, compute) == serial);
    CHECK(assemble({.tp = 2}, compute) == serial);
    CHECK(assemble({.dp = 2, .ep = 2}, compute) == serial);
    CHECK(assemble({.dp = 2, .tp = 2, .ep = 4}, compute, 3) == serial);
  }
}

TEST_CASE("initial values: kind, scale and name", "[param_store]") {
  const Assembled weights = assemble({}, DType::kF64);
  CHECK(weights.at("norm") == std::vector<double>(6, 1));
  CHECK(weights.at("zero") == std::vector<double>(15, 0));
  CHECK(weights.at("experts.0.gate") != weights.at("experts.1.gate"));

  MetaCommunicator alone(0, 1);
  Mesh mesh(alone, {});
  ParamStore store(mesh, Device::kCpu, DType::kF32);
  const ParamId id = store.add({.name = "big", .shape = {100, 100}, .init_std = 0.5});
  store.allocate();
  store.initialize(1);
  double sum = 0, squares = 0;
  for (float w : store.weight(id).span<float>()) sum += w, squares += w * w;
  CHECK(std::abs(sum / 1e4) < 0.02);
  CHECK(std::sqrt(squares / 1e4) == Approx(0.5).epsilon(0.03));
  store.initialize(2);
  double other = 0;
  for (float w : store.weight(id).span<float>()) other += w;
  CHECK(other != sum);
}

TEST_CASE("groups follow who sums a gradient", "[param_store][ranks]") {
  test::run_ranks(4, [](Communicator& world) {
    Mesh mesh(world, {.dp = 2, .tp = 2, .ep = 2});
    ParamStore store(mesh, Device::kCpu, DType::kBF16);
    declare(store, mesh.ep().rank(), mesh.ep().size());
    store.allocate();
    ENSURE(store.groups().size() == 4, "{} groups", store.groups().size());
    for (ParamId id = 0; id < store.params().size(); ++id) {
      const Param& param = store.params()[id];
      const ParamGroup& group = store.groups()[store.group_of(id)];
      Communicator* wanted = &mesh.stage();
      if (param.spec.tp_dim >= 0) wanted = &mesh.replicas();
      if (param.spec.expert) wanted = &mesh.edp();
      ENSURE(group.comm == wanted, "{} is summed over {}", param.spec.name, group.comm->name());
      ENSURE(group.keep_f32 == param.spec.keep_f32, "{}", param.spec.name);
      ENSURE(store.weight(id).dtype == (param.spec.keep_f32 ? DType::kF32 : DType::kBF16), "{}",
             param.spec.name);
      ENSURE(store.grad(id).dtype == DType::kF32, "{}", param.spec.name);
    }
    for (const ParamGroup& group : store.groups()) {
      ENSURE(group.numel % (16 * group.comm->size()) == 0, "{} elements", group.numel);
      ENSURE(group.shard_begin() == group.comm->rank() * group.shard_numel(), "shard");
      // Padding stays zero whatever the initial values are.
      store.initialize(5);
      std::int64_t end = 0;
      for (const Param& param : store.params()) {
        const std::size_t index = store.group_of(static_cast<ParamId>(&param - store.params().data()));
        if (&store.groups()[index] == &group) end = param.flat_begin + param.local_shape.numel();
      }
      for (std::int64_t i = end; i < group.numel; ++i)
        ENSURE(test::element(group.weights, i) == 0, "padding");
    }
    ENSURE(store.local_numel() == 36 + 24 + 6 + 4 + 24 + 15 + 4 * 30, "{} elements", store.local_numel());
  });
}

TEST_CASE("a bucket takes whole units until it is full", "[param_store]") {
  MetaCommunicator alone(0, 1);
  test::TestBed bed(alone, DType::kBF16, {}, Device::kCpu, 200);  // 50 gradients in fp32
  ParamStore& store = bed.store;
  const auto add = [&](const char* name, std::int64_t numel, bool keep_f32 = false) {
    return store.add({.name = name, .shape = {numel}, .keep_f32 = keep_f32});
  };
  const ParamId a = add("a", 30), norm0 = add("norm0", 2, true);
  store.begin_unit();
  const ParamId b = add("b", 10);
  store.begin_unit();
  const ParamId c = add("c", 10), d = add("d", 40);  // 50 are reached by c, within its unit
  store.begin_unit();
  const ParamId norm3 = add("norm3", 2, true);
  store.begin_unit();
  const ParamId e = add("e", 60), f = add("f", 3);
  store.begin_unit();
  const ParamId g = add("g", 1);
  store.allocate();

  const auto same = [&](std::initializer_list<ParamId> ids) {
    for (ParamId id : ids) CHECK(store.group_of(id) == store.group_of(*ids.begin()));
    return store.group_of(*ids.begin());
  };
  const std::vector<std::size_t> buckets = {same({a, b, c, d}), same({e, f}), same({g}),
                                            same({norm0, norm3})};
  CHECK(store.groups().size() == buckets.size());
  const std::int64_t units[][2] = {{0, 2}, {4, 4}, {5, 5}, {0, 3}};
  for (std::size_t i = 0; i < buckets.size(); ++i) {
    CHECK(store.groups()[buckets[i]].first_unit == units[i][0]);
    CHECK(store.groups()[buckets[i]].last_unit == units[i][1]);
  }
  CHECK(store.params()[d].flat_begin == 50);
  CHECK(store.params()[e].flat_begin == 0);
  CHECK(store.groups()[buckets[0]].numel == 96);
}

namespace {

struct CountedArrival final : Work::Pending {
  CountedArrival(int& times, PhaseClock& phases) : waits(times), clock(phases) {}
  void wait() override {
    ++waits;
    ENSURE(clock.current() == Phase::kGradSync, "waited for in another phase");
  }
  int& waits;
  PhaseClock& clock;
};

// Weights that arrive when they are waited for.
struct LateArrival final : Work::Pending {
  LateArrival(Tensor destination, bool& in_time) : weights(destination), arrived_in_time(in_time) {}
  void wait() override {
    auto* const first = weights.ptr<float>();
    const std::size_t page = 4096;
    unsigned char resident = 0;
    auto* const begin = reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(first) / page * page);
    arrived_in_time = mincore(begin, 1, &resident) == 0;  // else that memory is the process's no more
    if (arrived_in_time) *first = 1;
  }
  Tensor weights;
  bool& arrived_in_time;
};

}  // namespace

TEST_CASE("weights that nobody asked for arrive before their memory is given back", "[param_store]") {
  bool in_time = false;
  {
    MetaCommunicator alone(0, 1);
    test::TestBed bed(alone, DType::kF32);
    bed.store.add({.name = "a", .shape = {4096, 4096}});  // so large that it goes back to the system
    bed.store.allocate();
    const Tensor weights = bed.store.groups()[0].weights;
    bed.store.expect_weights(0, Work(std::make_unique<LateArrival>(weights, in_time)), nullptr);
  }
  CHECK(in_time);
}

TEST_CASE("who asks for a weight waits for its group alone, once", "[param_store]") {
  MetaCommunicator alone(0, 1);
  test::TestBed bed(alone, DType::kF32, {}, Device::kCpu, 1);
  const ParamId a = bed.store.add({.name = "a", .shape = {4, 4}});
  bed.store.begin_unit();
  const ParamId b = bed.store.add({.name = "b", .shape = {4, 4}});
  bed.store.begin_unit();
  bed.store.add({.name = "c", .shape = {4, 4}});
  bed.store.allocate();
  PhaseClock clock;
  int waits[3] = {};
  for (std::size_t group = 0; group < 3; ++group) {
    bed.store.expect_weights(group, Work(std::make_unique<CountedArrival>(waits[group], clock)), &clock);
  }
  const auto waited = [&] { return std::vector<int>(waits, waits + 3); };
  bed.store.grad(a);
  CHECK(waited() == std::vector<int>{0, 0, 0});
  bed.store.weight(b), bed.store.weight(b);
  CHECK(waited() == std::vector<int>{0, 1, 0});
  const ParamId ids[] = {a};
  bed.store.fused_weight(ids);
  CHECK(waited() == std::vector<int>{1, 1, 0});
  bed.store.await_weights();
  CHECK(waited() == std::vector<int>{1, 1, 1});
  CHECK(clock.current() == Phase::kInit);
}

TEST_CASE("neighbours are used as one matrix", "[param_store]") {
  MetaCommunicator alone(0, 1);
  test::TestBed bed(alone, DType::kF32);
  ParamStore& store = bed.store;
  const ParamId q = store.add({.name = "q", .shape = {4, 3}, .tp_dim = 0});
  const ParamId norm = store.add({.name = "norm", .shape = {3}, .keep_f32 = true});
  const ParamId k = store.add({.name = "k", .shape = {2, 3}, .tp_dim = 0});
  const ParamId v = store.add({.name = "v", .shape = {2, 3}, .tp_dim = 0});
  const ParamId out = store.add({.name = "out", .shape = {3, 4}, .tp_dim = 1});
  CHECK_THROWS_AS(store.weight(q), Error);
  store.allocate();
  store.initialize(1);

  const std::vector<ParamId> qkv{q, k, v}, gap{q, v}, backwards{k, q}, other_cols{v, out},
      other_group{q, norm};
  const Tensor fused = store.fused_weight(qkv);
  CHECK(fused.shape == Shape{8, 3});
  CHECK(fused.ptr<float>() == store.weight(q).ptr<float>());
  CHECK(fused.slice(6, 8).ptr<float>() == store.weight(v).ptr<float>());
  CHECK(store.fused_grad(qkv).slice(4, 6).ptr<float>() == store.grad(k).ptr<float>());
  CHECK_THROWS_AS(store.fused_weight(gap), Error);
  CHECK_THROWS_AS(store.fused_weight(backwards), Error);
  CHECK_THROWS_AS(store.fused_weight(other_cols), Error);
  CHECK_THROWS_AS(store.fused_weight(other_group), Error);
  CHECK_THROWS_AS(store.fused_weight({}), Error);

  store.grad(v).ptr<float>()[5] = 3;
  store.zero_grads(bed.ctx);
  CHECK(store.grad(v).ptr<float>()[5] == 0);
}

TEST_CASE("wrong declarations are refused", "[param_store]") {
  MetaCommunicator world(0, 3);
  Mesh mesh(world, {.tp = 3});
  ParamStore store(mesh, Device::kMeta, DType::kF32);
  store.add({.name = "a", .shape = {6, 4}, .tp_dim = 0});
  CHECK_THROWS_AS(store.add({.name = "a", .shape = {6, 4}}), Error);
  try {
    store.add({.name = "b", .shape = {6, 4}, .tp_dim = 1});
    FAIL("a dim that tp does not divide");
  } catch (const Error& error) {
    CHECK(std::string(error.what()).find("b: tp 3 does not divide dim 1 of (6, 4)") != std::string::npos);
  }
  CHECK_THROWS_AS(store.add({.name = "c", .shape = {6, 4}, .tp_dim = 2}), Error);
  CHECK_THROWS_AS(store.add({.name = "d", .shape = {6, 4, 2}}), Error);
  CHECK_THROWS_AS(store.add({.name = "e", .shape = {6, 4}, .tp_dim = 0, .expert = true}), Error);
  CHECK_THROWS_AS(store.add({.name = "", .shape = {6, 4}}), Error);
  store.allocate();
  CHECK_THROWS_AS(store.add({.name = "late", .shape = {6, 4}}), Error);
  CHECK_THROWS_AS(store.allocate(), Error);
}

TEST_CASE("a dry run counts the bytes of a real one", "[param_store]") {
  const auto bytes = [](Device device) {
    MetaCommunicator world(3, 8);
    Mesh mesh(world, {.dp = 4, .tp = 2, .ep = 2});
    ParamStore store(mesh, device, DType::kBF16);
    declare(store, mesh.ep().rank(), mesh.ep().size());
    store.allocate();
    store.initialize(1);
    CHECK((store.weight(0).data == nullptr) == (device == Device::kMeta));
    return store.bytes();
  };
  CHECK(bytes(Device::kMeta) == bytes(Device::kCpu));
  // kTpSharded 64 -> 64 = 16 * 4 ranks; kReplicated f32 30 -> 128; kReplicated 15 -> 128; kExpert 120 -> 128.
  CHECK(bytes(Device::kMeta) == 64 * 6 + 128 * 8 + 128 * 6 + 128 * 6);
}

}  // namespace jevons
