// Matrices that lie in pieces on ranks, whole on one of them and back.
#include "parallel/whole_matrices.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <string>
#include <vector>

#include "parallel/bucket_reducer.h"
#include "tests/support/catch.h"
#include "tests/support/compare.h"
#include "tests/support/ranks.h"

namespace jevons::test {
namespace {

constexpr int kExperts = 4;

struct Setting {
  Layout layout;
  int zero_stage = 1;
  std::int64_t bucket_bytes = kOneBucket;
  std::string to_string() const {
    return fmt::format("{}, zero {}, buckets of {}", layout.to_string(), zero_stage, bucket_bytes);
  }
};

// Weights of every kind: split by rows and columns, with blocks, replicated, of experts, and some that are
// none.
void declare(ParamStore& store) {
  for (int layer = 0; layer < 2; ++layer) {
    const std::string name = fmt::format("layers.{}.", layer);
    store.begin_unit();
    store.add({.name = name + "q", .shape = {8, 6}, .tp_dim = 0});
    store.add({.name = name + "heads", .shape = {20, 6}, .tp_dim = 0, .row_blocks = {2, 3}});
    store.add({.name = name + "o", .shape = {6, 8}, .tp_dim = 1});
    store.add({.name = name + "norm", .shape = {7}, .role = ParamRole::kVector});
    store.add({.name = name + "down", .shape = {5, 7}});
    store.add({.name = name + "embedding", .shape = {9, 3}, .role = ParamRole::kEmbedding});
    const int ep = store.mesh().ep().size(), count = kExperts / ep, first = store.mesh().ep().rank() * count;
    for (int e = first; e < first + count; ++e)
      store.add({.name = fmt::format("{}experts.{}", name, e), .shape = {4, 9}, .expert = true});
  }
}

bool is_matrix(const ParamSpec& spec) {
  return spec.role == ParamRole::kMatrix && spec.shape.ndim() == 2;
}

// Another number for every element of every weight.
double value_of(const std::string& name, std::int64_t index) {
  return RandomStream(3, name).normal(static_cast<std::uint64_t>(index));
}

// Every matrix under the value of its first element, as one worker has them.
std::map<double, std::vector<double>> expected_matrices() {
  std::map<double, std::vector<double>> matrices;
  const auto add = [&](const std::string& name, std::int64_t first, std::int64_t rows, std::int64_t cols) {
    std::vector<double> values = {static_cast<double>(rows), static_cast<double>(cols)};
    for (std::int64_t i = first * cols; i < (first + rows) * cols; ++i) values.push_back(value_of(name, i));
    matrices[values[2]] = values;
  };
  for (int layer = 0; layer < 2; ++layer) {
    const std::string name = fmt::format("layers.{}.", layer);
    add(name + "q", 0, 8, 6), add(name + "o", 0, 6, 8), add(name + "down", 0, 5, 7);
    for (int head = 0; head < 4; ++head)
      add(name + "heads", 5 * head, 2, 6), add(name + "heads", 5 * head + 2, 3, 6);
    for (int e = 0; e < kExperts; ++e) add(fmt::format("{}experts.{}", name, e), 0, 4, 9);
  }
  return matrices;
}

// The matrices that this rank sees, one after another; each becomes its negative.
std::vector<double> negate_all(const Context& ctx, const WholeMatrices& matrices) {
  std::vector<double> seen;
  matrices.for_each(ctx, [&](Tensor m) {
    seen.push_back(static_cast<double>(m.shape[0])), seen.push_back(static_cast<double>(m.shape[1]));
    for (double& value : m.span<double>()) seen.push_back(value), value = -value;
  });
  return seen;
}

// In its update ranges the gradients of matrices are negative now, those of others as they were.
void check_gradients(TestBed& bed, const GradReducer& reducer) {
  for (ParamId id = 0; id < bed.store.params().size(); ++id) {
    const Param& param = bed.store.params()[id];
    const FlatRange range = reducer.update_range(bed.store.group_of(id));
    const Tensor grad = bed.store.grad(id);
    const double sign = is_matrix(param.spec) ? -1 : 1;
    for_each_element(param, [&](std::int64_t local, std::int64_t global) {
      const std::int64_t flat = param.flat_begin + local;
      if (flat < range.begin || flat >= range.end()) return;
      ENSURE(element(grad, local) == sign * value_of(param.spec.name, global), "{}[{}] = {}", param.spec.name,
             global, element(grad, local));
    });
  }
}

// What all ranks see of matrices, each with its size before it.
std::vector<std::vector<double>> matrices_seen(const Setting& setting) {
  return run_ranks(setting.layout.world(), [&](Communicator& world) {
    TestBed bed(world, DType::kF64, setting.layout, Device::kCpu, setting.bucket_bytes);
    declare(bed.store);
    bed.store.allocate();
    for (ParamId id = 0; id < bed.store.params().size(); ++id) {
      const Param& param = bed.store.params()[id];
      const Tensor grad = bed.store.grad(id);
      for_each_element(param, [&](std::int64_t local, std::int64_t global) {
        grad.ptr<double>()[local] = value_of(param.spec.name, global);
      });
    }
    const BucketReducer reducer(bed.store, setting.zero_stage);
    const WholeMatrices matrices(bed.store, reducer, is_matrix);
    std::vector<double> seen = negate_all(bed.ctx, matrices);
    check_gradients(bed, reducer);
    return seen;
  });
}

}  // namespace

TEST_CASE("every matrix is whole on one rank, whatever the layout, and goes back where it came from",
          "[whole_matrices][ranks]") {
  const auto expected = expected_matrices();
  const std::vector<Setting> settings = {
      {{}},
      {{.dp = 3}},
      {{.dp = 8}, 1, 1},
      {{.tp = 2}, 0},
      {{.tp = 2}},
      {{.dp = 2, .ep = 2}, 1, 1},
      {{.dp = 4, .ep = 2}},
      {{.dp = 4, .tp = 2, .ep = 2}},
      {{.dp = 2, .tp = 4, .ep = 4}, 1, 1},
      {{.dp = 2, .tp = 2, .ep = 2}, 0},
  };
  for (const Setting& setting : settings) {
    INFO(setting.to_string());
    std::map<double, int> times;
    for (const std::vector<double>& seen : matrices_seen(setting)) {
      for (std::size_t at = 0; at < seen.size();) {
        const auto numel = static_cast<std::size_t>(seen[at] * seen[at + 1]);
        const std::vector<double> matrix(seen.begin() + static_cast<std::ptrdiff_t>(at),
                                         seen.begin() + static_cast<std::ptrdiff_t>(at + 2 + numel));
        REQUIRE(expected.contains(matrix[2]));
        CHECK(expected.at(matrix[2]) == matrix);
        ++times[matrix[2]];
        at += 2 + numel;
      }
    }
    CHECK(times.size() == expected.size());
    // Where every rank has all sums each does all that is its own.
    if (setting.zero_stage == 0) continue;
    for (const auto& [first, count] : times) CHECK(count == 1);
  }
}

TEST_CASE("matrices that no rank has whole are spread over ranks by their work", "[whole_matrices][ranks]") {
  const auto work = run_ranks(4, [](Communicator& world) {
    TestBed bed(world, DType::kF32, {.dp = 4});
    for (int i = 0; i < 12; ++i) bed.store.add({.name = fmt::format("w{}", i), .shape = {16, 20}});
    bed.store.allocate();
    const BucketReducer reducer(bed.store, 1);
    const WholeMatrices matrices(bed.store, reducer, is_matrix);
    bed.mesh.set_listener(&bed.meter);
    double mine = 0;
    matrices.for_each(bed.ctx, [&](Tensor) { ++mine; });
    bed.mesh.set_listener(nullptr);
    ENSURE(bed.meter[WorkKind::kWire].bytes == 0, "shards end at matrices, so nothing travels");
    return mine;
  });
  CHECK(work == std::vector<double>{3, 3, 3, 3});

  const auto uneven = run_ranks(4, [](Communicator& world) {
    TestBed bed(world, DType::kF32, {.dp = 4});
    for (int i = 0; i < 5; ++i) bed.store.add({.name = fmt::format("w{}", i), .shape = {16, 20}});
    bed.store.allocate();
    const BucketReducer reducer(bed.store, 1);
    const WholeMatrices matrices(bed.store, reducer, is_matrix);
    double mine = 0;
    matrices.for_each(bed.ctx, [&](Tensor) { ++mine; });
    return mine;
  });
  CHECK(std::accumulate(uneven.begin(), uneven.end(), 0.0) == 5);
  CHECK(*std::ranges::max_element(uneven) == 2);
}

}  // namespace jevons::test
