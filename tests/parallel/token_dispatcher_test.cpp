// Expert dispatch over ranks, against brute force over all tokens.
#include "parallel/token_dispatcher.h"

#include <cmath>
#include <numeric>

#include "kernels/core/error.h"
#include "parallel/meta/meta_communicator.h"
#include "tests/parallel/dispatch_fixture.h"
#include "tests/support/catch.h"
#include "tests/support/compare.h"
#include "tests/support/ranks.h"

namespace jevons::test {

TEST_CASE("rows reach their experts in the order source rank, token, slot, each with its scalar",
          "[dispatch][ranks]") {
  const int ranks = GENERATE(1, 2, 4, 8);
  for (const auto& [name, batch] : batches(ranks)) {
    INFO(name << " on " << ranks << " ranks");
    run_ranks(ranks, [&batch = batch](Communicator& ep) {
      Rank rank(ep, batch);
      const DispatchPlan plan = rank.plan();
      const auto id = [](std::int64_t token, std::int64_t) { return static_cast<double>(token); };
      const Tensor x = rank.out(plan, rank.rows(3, DType::kF32, id));
      const Tensor w_TK = rank.rows(batch.top_k, DType::kF64, [&](std::int64_t token, std::int64_t slot) {
        return static_cast<double>(token * batch.top_k + slot);
      });
      const Tensor w = rank.stash.alloc({plan.rows}, DType::kF64);
      rank.dispatcher.out_scalars(rank.ctx, plan, w_TK, w);

      const std::int64_t first = rank.dispatcher.first_expert(), local = rank.dispatcher.local_experts();
      ENSURE(std::ssize(plan.expert_offsets) == local + 1, "{} offsets", plan.expert_offsets.size());
      std::int64_t row = 0;
      for (std::int64_t e = 0; e < local; ++e) {
        ENSURE(plan.expert_offsets[static_cast<std::size_t>(e)] == row, "expert {} starts elsewhere", e);
        for (std::int64_t t = 0; t < batch.tokens(); ++t) {  // global token order is (rank, token)
          for (std::int64_t k = 0; k < batch.top_k; ++k) {
            if (batch.expert(t, k) != first + e) continue;
            ENSURE(row < plan.rows, "too few rows");
            for (int c = 0; c < 3; ++c) {
              ENSURE(x.ptr<float>()[row * 3 + c] == static_cast<float>(t), "row {} is not token {}", row, t);
            }
            ENSURE(w.ptr<double>()[row] == static_cast<double>(t * batch.top_k + k), "scalar of row {}", row);
            ++row;
          }
        }
      }
      ENSURE(row == plan.rows && plan.expert_offsets.back() == row && !plan.dropped.defined(), "{} rows",
             plan.rows);

      const Tensor back = rank.stash.alloc(w_TK.shape, DType::kF64);
      rank.dispatcher.home_scalars(rank.ctx, plan, w, back);
      for (std::int64_t i = 0; i < back.numel(); ++i) {
        ENSURE(back.ptr<double>()[i] == w_TK.ptr<double>()[i], "scalar {} came home as another", i);
      }
    });
  }
}

TEST_CASE("experts that do nothing, weighted by parts of 1, give the input back", "[dispatch][ranks]") {
  const int ranks = GENERATE(1, 2, 4, 8);
  const bool reduce = GENERATE(false, true);
  for (const auto& [name, batch] : batches(ranks)) {
    INFO(name << " on " << ranks << " ranks, reduce_at_expert " << reduce);
    run_ranks(ranks, [&, &batch = batch](Communicator& ep) {
      Rank rank(ep, batch, {.reduce_at_expert = reduce});
      const DispatchPlan plan = rank.plan();
      // Integers times 2^-1, 2^-2, ...: exact sums.
      const Tensor x = rank.rows(5, DType::kF32,
                                 [](std::int64_t t, std::int64_t c) { return 8.0 * double(t) + double(c); });
      const Tensor w_TK = rank.rows(batch.top_k, DType::kF32, [&](std::int64_t, std::int64_t k) {
        return std::ldexp(1.0, -static_cast<int>(k + (k + 1 < batch.top_k ? 1 : 0)));
      });
      const Tensor w = rank.stash.alloc({plan.rows}, DType::kF32);
      rank.dispatcher.out_scalars(rank.ctx, plan, w_TK, w);
      const Tensor rows = rank.out(plan, x);
      for (std::int64_t i = 0; i < rows.numel(); ++i) rows.ptr<float>()[i] *= w.ptr<float>()[i / 5];
      const Tensor y = rank.home(plan, rows);
      for (std::int64_t i = 0; i < x.numel(); ++i) {
        ENSURE(y.ptr<float>()[i] == x.ptr<float>()[i], "element {}: {} for {}", i, y.ptr<float>()[i],
               x.ptr<float>()[i]);
      }
    });
  }
}

TEST_CASE("home is the adjoint of out", "[dispatch][ranks]") {
  const int ranks = GENERATE(1, 2, 4, 8);
  const bool reduce = GENERATE(false, true);
  const double capacity = GENERATE(0.0, 0.75);
  for (const auto& [name, batch] : batches(ranks)) {
    if (capacity > 0 && !batch.even()) continue;
    INFO(name << " on " << ranks << " ranks, reduce_at_expert " << reduce << ", capacity " << capacity);
    const auto dots = run_ranks(ranks, [&, &batch = batch](Communicator& ep) {
      Rank rank(ep, batch, {.capacity_factor = capacity, .reduce_at_expert = reduce});
      const DispatchPlan plan = rank.plan();
      const Tensor x = rank.rows(6, DType::kF64, [](auto t, auto c) { return normal("x", t, c); });
      const Tensor y = rank.stash.alloc({plan.rows, 6}, DType::kF64);
      for (std::int64_t i = 0; i < y.numel(); ++i) y.ptr<double>()[i] = normal("y", ep.rank() * 100000, i);
      const Tensor out_x = rank.out(plan, x), home_y = rank.home(plan, y);
      const auto dot = [](Tensor a, Tensor b) {
        return std::inner_product(a.span<double>().begin(), a.span<double>().end(), b.span<double>().begin(),
                                  0.0);
      };
      return std::pair(dot(out_x, y), dot(x, home_y));
    });
    double a = 0, b = 0;
    for (const auto& [left, right] : dots) a += left, b += right;
    CHECK(std::abs(a - b) <= 1e-12 * std::max(1.0, std::abs(a)));
  }
}

TEST_CASE("the bits of what comes home do not depend on ep; summed at the expert they stay close",
          "[dispatch][ranks]") {
  const DType dtype = GENERATE(DType::kF32, DType::kBF16);
  const bool reduce = GENERATE(false, true);
  const std::int64_t tokens = 48, top_k = 5;
  std::vector<Values> results;
  for (int ranks : {1, 2, 4, 8}) {
    const Batch batch = make_batch(std::vector<std::int64_t>(static_cast<std::size_t>(ranks), tokens / ranks),
                                   8, top_k, at_random(top_k, first_experts(8)));
    const std::vector<Values> parts = run_ranks(ranks, [&](Communicator& ep) {
      Rank rank(ep, batch, {.reduce_at_expert = reduce});
      const DispatchPlan plan = rank.plan();
      const Tensor x = rank.rows(4, dtype, [](auto t, auto c) { return normal("x", t, c); });
      const Tensor rows = rank.out(plan, x);
      for (std::int64_t e = 0; e < rank.dispatcher.local_experts();
           ++e) {  // expert g multiplies by (g + 1) / 7
        const double factor = static_cast<double>(rank.dispatcher.first_expert() + e + 1) / 7;
        const Tensor mine = rows.slice(plan.expert_offsets[static_cast<std::size_t>(e)],
                                       plan.expert_offsets[static_cast<std::size_t>(e) + 1]);
        for (std::int64_t i = 0; i < mine.numel(); ++i) {
          if (dtype == DType::kF32) mine.ptr<float>()[i] = static_cast<float>(mine.ptr<float>()[i] * factor);
          if (dtype == DType::kBF16) {
            bf16& v = mine.ptr<bf16>()[i];
            v = bf16(static_cast<float>(static_cast<double>(static_cast<float>(v)) * factor));
          }
        }
      }
      return to_vector(rank.home(plan, rows));
    });
    Values& result = results.emplace_back();
    for (const Values& part : parts) result.insert(result.end(), part.begin(), part.end());
  }
  if (!reduce) {
    for (const Values& result : results) CHECK(result == results[0]);
    return;
  }
  // Every partial sum rounds once more: 5 terms of size <= 8/7 * |x|, |x| < 4.
  const double bound = (dtype == DType::kF32 ? 0x1p-24 : 0x1p-8) * 5 * 4 * 8.0 / 7;
  for (std::size_t i = 0; i < results[0].size(); ++i) {
    for (const Values& result : results) CHECK(std::abs(result[i] - results[0][i]) <= bound);
  }
}

TEST_CASE("a token for several experts of one rank crosses the wire once", "[dispatch][ranks]") {
  // Two ranks of 4 experts; every token of rank 0 goes to four experts of rank 1, rank 1 keeps its own.
  const std::int64_t tokens = 10, cols = 16, top_k = 4;
  const bool reduce = GENERATE(false, true);
  const Batch batch = make_batch({tokens, tokens}, 8, top_k, [](std::int64_t) {
    return Indices{4, 5, 6, 7};
  });
  const auto wire = run_ranks(2, [&](Communicator& ep) {
    Rank rank(ep, batch, {.reduce_at_expert = reduce});
    const DispatchPlan plan = rank.plan();
    const Tensor x = rank.rows(cols, DType::kF32, [](auto t, auto c) { return normal("x", t, c); });
    rank.meter.reset();
    const Tensor rows = rank.out(plan, x);
    const double out = rank.meter[WorkKind::kWire].bytes;
    rank.meter.reset();
    rank.home(plan, rows);
    return std::pair(out, rank.meter[WorkKind::kWire].bytes);
  });
  const double row = cols * 4;
  CHECK(wire[0].first == tokens * row);
  CHECK(wire[1].second == tokens * row * (reduce ? 1 : top_k));
}

TEST_CASE("slots over capacity are dropped in token order and contribute nothing", "[dispatch][ranks]") {
  // 6 tokens per rank, all choose (0, 1) of 4 experts: capacity ceil(1.0 * 12 / 4) = 3 per expert and rank.
  const int ranks = GENERATE(1, 2);
  const Batch batch =
      make_batch(std::vector<std::int64_t>(static_cast<std::size_t>(ranks), 6), 4, 2, [](std::int64_t) {
        return Indices{0, 1};
      });
  run_ranks(ranks, [&](Communicator& ep) {
    Rank rank(ep, batch, {.capacity_factor = 1});
    const DispatchPlan plan = rank.plan();
    const std::int64_t dropped = *plan.dropped.ptr<std::int64_t>();
    ENSURE(dropped == 6, "{} dropped", dropped);
    ENSURE(plan.rows == 12, "{} rows", plan.rows);  // 4 experts with room for 3 from each rank
    const Tensor x = rank.rows(2, DType::kF32, [](auto t, auto) { return double(t + 1); });
    const Tensor y = rank.home(plan, rank.out(plan, x));
    for (std::int64_t t = 0; t < 6; ++t) {
      const float want = t < 3 ? 2 * x.ptr<float>()[2 * t] : 0;
      ENSURE(y.ptr<float>()[2 * t] == want, "token {}: {} for {}", t, y.ptr<float>()[2 * t], want);
    }
    const Tensor w = rank.stash.alloc({plan.rows}, DType::kF32), back = rank.stash.alloc({6, 2}, DType::kF32);
    for (float& v : w.span<float>()) v = 1;
    rank.dispatcher.home_scalars(rank.ctx, plan, w, back);
    for (std::int64_t i = 0; i < 12; ++i)
      ENSURE(back.ptr<float>()[i] == (i < 6 ? 1 : 0), "gradient of slot {}", i);
  });
}

TEST_CASE("with a capacity that nobody reaches, what comes home is the same as without",
          "[dispatch][ranks]") {
  const int ranks = GENERATE(1, 2, 4, 8);
  const bool reduce = GENERATE(false, true);
  for (const auto& [name, batch] : batches(ranks)) {
    if (!batch.even()) continue;
    INFO(name << " on " << ranks << " ranks, reduce_at_expert " << reduce);
    run_ranks(ranks, [&, &batch = batch](Communicator& ep) {
      const auto travel = [&](double capacity) {
        Rank rank(ep, batch, {.capacity_factor = capacity, .reduce_at_expert = reduce});
        const DispatchPlan plan = rank.plan();
        const Tensor x = rank.rows(5, DType::kF32, [](auto t, auto c) { return normal("x", t, c); });
        const Tensor rows = rank.out(plan, x);
        for (std::size_t e = 0; e + 1 < plan.expert_offsets.size(); ++e) {
          const Tensor mine = rows.slice(plan.expert_offsets[e], plan.expert_offsets[e + 1]);
          for (float& v : mine.span<float>()) v *= static_cast<float>(e + 2);
        }
        const Tensor y = rank.home(plan, rows);
        return std::vector<float>(y.span<float>().begin(), y.span<float>().end());
      };
      ENSURE(travel(100) == travel(0), "a capacity changes what comes home");
    });
  }
}

TEST_CASE("the dry run counts the bytes and the memory of a balanced exchange", "[dispatch][ranks]") {
  // Four experts on two ranks, every pair of experts equally often: 5 of 6 tokens meet a given rank.
  const Indices pairs[] = {{0, 1}, {0, 2}, {0, 3}, {1, 2}, {1, 3}, {2, 3}};
  const bool reduce = GENERATE(false, true);
  const double capacity = GENERATE(0.0, 1.25);
  const Batch batch = make_batch({12, 12}, 4, 2, [&](std::int64_t t) { return pairs[t % 6]; });
  struct Usage {
    double wire, traffic;
    std::size_t stash, work;
    bool operator==(const Usage&) const = default;
  };
  const auto use = [&](Communicator& ep, Device device) {
    Rank rank(ep, batch, {.capacity_factor = capacity, .reduce_at_expert = reduce}, device);
    const DispatchPlan plan = rank.plan();
    const Tensor x = rank.rows(6, DType::kF32, [](auto t, auto c) { return normal("x", t, c); });
    const Tensor w_TK = rank.rows(2, DType::kF32, [](auto, auto) { return 1; });
    const Tensor w = rank.stash.alloc({plan.rows}, DType::kF32);
    rank.dispatcher.out_scalars(rank.ctx, plan, w_TK, w);
    rank.dispatcher.home_scalars(rank.ctx, plan, w, w_TK);
    rank.home(plan, rank.out(plan, x));
    return Usage{rank.meter[WorkKind::kWire].bytes, rank.meter[WorkKind::kRow].bytes, rank.stash.peak_bytes(),
                 rank.work.peak_bytes()};
  };
  const auto real = run_ranks(2, [&](Communicator& ep) { return use(ep, Device::kCpu); });
  for (int r = 0; r < 2; ++r) {
    MetaCommunicator meta(r, 2);
    const Usage dry = use(meta, Device::kMeta);
    CHECK(dry == real[static_cast<std::size_t>(r)]);
  }
}

}  // namespace jevons::test
