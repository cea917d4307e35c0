// Expert dispatch over ranks that are threads, against brute force over all tokens.
#include "parallel/token_dispatcher.h"

#include <atomic>
#include <chrono>
#include <cmath>
#include <functional>
#include <numeric>
#include <thread>

#include "kernels/core/error.h"
#include "kernels/core/rng.h"
#include "parallel/meta/meta_communicator.h"
#include "tests/support/catch.h"
#include "tests/support/thread_ranks.h"

namespace jevons {
namespace {

using Values = std::vector<double>;
using Indices = std::vector<std::int32_t>;

// All tokens of all ranks: rank r holds tokens [begin[r], begin[r+1]).
struct Batch {
  std::vector<std::int64_t> begin;
  std::int64_t experts, top_k;
  Indices indices;  // (all tokens, K)

  int ranks() const { return static_cast<int>(begin.size()) - 1; }
  std::int64_t tokens() const { return begin.back(); }
  std::int64_t first(int rank) const { return begin[static_cast<std::size_t>(rank)]; }
  std::int64_t held(int rank) const { return begin[static_cast<std::size_t>(rank) + 1] - first(rank); }
  std::int32_t expert(std::int64_t token, std::int64_t slot) const {
    return indices[static_cast<std::size_t>(token * top_k + slot)];
  }
};

using Choose = std::function<Indices(std::int64_t token)>;

Batch make_batch(const std::vector<std::int64_t>& tokens_of_rank, std::int64_t experts, std::int64_t top_k,
                 const Choose& choose) {
  Batch batch{{0}, experts, top_k, {}};
  for (std::int64_t n : tokens_of_rank) batch.begin.push_back(batch.begin.back() + n);
  for (std::int64_t t = 0; t < batch.tokens(); ++t) {
    const Indices chosen = choose(t);
    batch.indices.insert(batch.indices.end(), chosen.begin(), chosen.end());
  }
  return batch;
}

// K different experts out of `among`, at random.
Choose at_random(std::int64_t top_k, std::vector<std::int32_t> among) {
  return [=](std::int64_t token) {
    const RandomStream stream(5, "experts");
    Indices pool(among.begin(), among.end());
    for (std::int64_t k = 0; k < top_k; ++k) {
      const auto left = pool.size() - static_cast<std::size_t>(k);
      const auto pick = stream.below(static_cast<std::uint64_t>(token * 64 + k), left);
      std::swap(pool[static_cast<std::size_t>(k)], pool[static_cast<std::size_t>(k) + pick]);
    }
    pool.resize(static_cast<std::size_t>(top_k));
    return pool;
  };
}

Indices first_experts(std::int64_t n) {
  Indices all(static_cast<std::size_t>(n));
  std::iota(all.begin(), all.end(), 0);
  return all;
}

struct Named {
  const char* name;
  Batch batch;
};
std::vector<Named> batches(int ranks) {
  const auto n = static_cast<std::size_t>(ranks);
  std::vector<std::int64_t> uneven(n, 5), empty(n, 6);
  for (std::size_t r = 0; r < n; ++r) uneven[r] += static_cast<std::int64_t>(7 * r % 4);
  empty[n - 1] = 0;
  const auto all = first_experts(8);
  return {
      {"random, uneven ranks", make_batch(uneven, 8, 3, at_random(3, all))},
      {"a rank without tokens", make_batch(empty, 8, 2, at_random(2, all))},
      {"no tokens at all", make_batch(std::vector<std::int64_t>(n, 0), 8, 2, at_random(2, all))},
      {"one token per rank", make_batch(std::vector<std::int64_t>(n, 1), 8, 2, at_random(2, all))},
      {"everyone to expert 6", make_batch(uneven, 8, 1, [](std::int64_t) { return Indices{6}; })},
      {"experts 0 and 4 chosen by nobody", make_batch(uneven, 8, 2, at_random(2, {1, 2, 3, 5, 6, 7}))},
      {"all experts for every token", make_batch(uneven, 4, 4, at_random(4, first_experts(4)))},
  };
}

// One rank's context, arenas and dispatcher.
struct Rank {
  Rank(Communicator& ep, const Batch& batch, DispatchOptions options = {}, Device device = Device::kCpu)
      : comm(ep),
        batch(batch),
        stash(device, "stash"),
        work(device, "work"),
        dispatcher(ep, filled(options, batch)) {
    ctx = {.device = device, .stash = &stash, .work = &work, .meter = &meter};
    ep.set_meter(&meter);
  }
  static DispatchOptions filled(DispatchOptions options, const Batch& batch) {
    options.num_experts = batch.experts, options.top_k = batch.top_k, options.layer = "layers.3.moe";
    return options;
  }
  std::int64_t tokens() const { return batch.held(comm.rank()); }
  DispatchPlan plan() {
    const Tensor indices = stash.alloc({tokens(), batch.top_k}, DType::kI32);
    if (indices.data != nullptr && indices.numel() > 0) {
      std::copy_n(batch.indices.begin() + batch.first(comm.rank()) * batch.top_k, indices.numel(),
                  indices.ptr<std::int32_t>());
    }
    return dispatcher.plan(ctx, indices, stash);
  }
  // value(global row, column) on this rank's tokens.
  template <class F>
  Tensor rows(std::int64_t cols, DType dtype, F value) {
    const Tensor t = stash.alloc({tokens(), cols}, dtype);
    for (std::int64_t i = 0; i < t.numel() && t.data != nullptr; ++i) {
      const double v = value(batch.first(comm.rank()) + i / cols, i % cols);
      if (dtype == DType::kF32) t.ptr<float>()[i] = static_cast<float>(v);
      if (dtype == DType::kBF16) t.ptr<bf16>()[i] = bf16(static_cast<float>(v));
      if (dtype == DType::kF64) t.ptr<double>()[i] = v;
    }
    return t;
  }
  Tensor out(const DispatchPlan& plan, Tensor x) {
    const Tensor y = stash.alloc({plan.rows, x.cols()}, x.dtype);
    dispatcher.out_end(ctx, plan, dispatcher.out_begin(ctx, plan, x), y);
    return y;
  }
  Tensor home(const DispatchPlan& plan, Tensor x) {
    const Tensor y = stash.alloc({plan.tokens, x.cols()}, x.dtype);
    dispatcher.home_end(ctx, plan, dispatcher.home_begin(ctx, plan, x), y);
    return y;
  }

  Communicator& comm;
  const Batch& batch;
  Arena stash, work;
  WorkMeter meter;
  TokenDispatcher dispatcher;
  Context ctx;
};

double normal(std::string_view name, std::int64_t row, std::int64_t col) {
  return RandomStream(3, name).normal(static_cast<std::uint64_t>(row * 1000 + col));
}

std::string failure_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("rows reach their experts in the order source rank, token, slot, each with its scalar",
          "[dispatch]") {
  const int ranks = GENERATE(1, 2, 4);
  for (const auto& [name, batch] : batches(ranks)) {
    INFO(name << " on " << ranks << " ranks");
    test::run_ranks(ranks, [&batch = batch](Communicator& ep) {
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
      ENSURE(row == plan.rows && plan.expert_offsets.back() == row && plan.dropped == 0, "{} rows",
             plan.rows);

      const Tensor back = rank.stash.alloc(w_TK.shape, DType::kF64);
      rank.dispatcher.home_scalars(rank.ctx, plan, w, back);
      for (std::int64_t i = 0; i < back.numel(); ++i) {
        ENSURE(back.ptr<double>()[i] == w_TK.ptr<double>()[i], "scalar {} came home as another", i);
      }
    });
  }
}

TEST_CASE("experts that do nothing, weighted by parts of 1, give the input back", "[dispatch]") {
  const int ranks = GENERATE(1, 2, 4);
  const bool reduce = GENERATE(false, true);
  for (const auto& [name, batch] : batches(ranks)) {
    INFO(name << " on " << ranks << " ranks, reduce_at_expert " << reduce);
    test::run_ranks(ranks, [&, &batch = batch](Communicator& ep) {
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

TEST_CASE("home is the adjoint of out", "[dispatch]") {
  const int ranks = GENERATE(1, 2, 4);
  const bool reduce = GENERATE(false, true);
  const double capacity = GENERATE(0.0, 0.75);
  for (const auto& [name, batch] : batches(ranks)) {
    INFO(name << " on " << ranks << " ranks, reduce_at_expert " << reduce << ", capacity " << capacity);
    Values left(static_cast<std::size_t>(ranks)), right(left);
    test::run_ranks(ranks, [&, &batch = batch](Communicator& ep) {
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
      left[static_cast<std::size_t>(ep.rank())] = dot(out_x, y);
      right[static_cast<std::size_t>(ep.rank())] = dot(x, home_y);
    });
    const double a = std::accumulate(left.begin(), left.end(), 0.0),
                 b = std::accumulate(right.begin(), right.end(), 0.0);
    CHECK(std::abs(a - b) <= 1e-12 * std::max(1.0, std::abs(a)));
  }
}

TEST_CASE("the bits of what comes home do not depend on ep; summed at the expert they stay close",
          "[dispatch]") {
  const DType dtype = GENERATE(DType::kF32, DType::kBF16);
  const bool reduce = GENERATE(false, true);
  const std::int64_t tokens = 48, top_k = 5;
  std::vector<Values> results;
  for (int ranks : {1, 2, 4}) {
    const Batch batch = make_batch(std::vector<std::int64_t>(static_cast<std::size_t>(ranks), tokens / ranks),
                                   8, top_k, at_random(top_k, first_experts(8)));
    Values& result = results.emplace_back(static_cast<std::size_t>(tokens * 4));
    test::run_ranks(ranks, [&](Communicator& ep) {
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
      const Tensor y = rank.home(plan, rows);
      for (std::int64_t i = 0; i < y.numel(); ++i) {
        const double v =
            dtype == DType::kF32 ? double(y.ptr<float>()[i]) : double(static_cast<float>(y.ptr<bf16>()[i]));
        result[static_cast<std::size_t>(batch.first(ep.rank()) * 4 + i)] = v;
      }
    });
  }
  if (!reduce) {
    CHECK(results[1] == results[0]);
    CHECK(results[2] == results[0]);
    return;
  }
  // Every partial sum rounds once more: 5 terms of size <= 8/7 * |x|, |x| < 4.
  const double bound = (dtype == DType::kF32 ? 0x1p-24 : 0x1p-8) * 5 * 4 * 8.0 / 7;
  for (std::size_t i = 0; i < results[0].size(); ++i) {
    CHECK(std::abs(results[1][i] - results[0][i]) <= bound);
    CHECK(std::abs(results[2][i] - results[0][i]) <= bound);
  }
}

TEST_CASE("a token for several experts of one rank crosses the wire once", "[dispatch]") {
  // Two ranks of 4 experts; every token of rank 0 goes to four experts of rank 1, rank 1 keeps its own.
  const std::int64_t tokens = 10, cols = 16, top_k = 4;
  const bool reduce = GENERATE(false, true);
  const Batch batch = make_batch({tokens, tokens}, 8, top_k, [](std::int64_t) {
    return Indices{4, 5, 6, 7};
  });
  double out_bytes = 0, home_bytes = 0;
  test::run_ranks(2, [&](Communicator& ep) {
    Rank rank(ep, batch, {.reduce_at_expert = reduce});
    const DispatchPlan plan = rank.plan();
    const Tensor x = rank.rows(cols, DType::kF32, [](auto t, auto c) { return normal("x", t, c); });
    rank.meter.reset();
    const Tensor rows = rank.out(plan, x);
    if (ep.rank() == 0) out_bytes = rank.meter[WorkKind::kWire].bytes;
    rank.meter.reset();
    rank.home(plan, rows);
    if (ep.rank() == 1) home_bytes = rank.meter[WorkKind::kWire].bytes;
  });
  const double row = cols * 4;
  CHECK(out_bytes == tokens * row);
  CHECK(home_bytes == tokens * row * (reduce ? 1 : top_k));
}

TEST_CASE("slots over capacity are dropped in token order and contribute nothing", "[dispatch]") {
  // 6 tokens per rank, all choose (0, 1) of 4 experts: capacity ceil(1.0 * 12 / 4) = 3 per expert and rank.
  const int ranks = GENERATE(1, 2);
  const Batch batch =
      make_batch(std::vector<std::int64_t>(static_cast<std::size_t>(ranks), 6), 4, 2, [](std::int64_t) {
        return Indices{0, 1};
      });
  test::run_ranks(ranks, [&](Communicator& ep) {
    Rank rank(ep, batch, {.capacity_factor = 1});
    const DispatchPlan plan = rank.plan();
    ENSURE(plan.dropped == 6, "{} dropped", plan.dropped);
    ENSURE(plan.rows == (ep.rank() == 0 ? 6 * ranks : 0), "{} rows", plan.rows);
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

namespace {

// Passes everything on, but adds 1 to one element of what its n-th all_to_all_v receives.
class Corrupting final : public Communicator {
 public:
  Corrupting(Communicator& inner, int nth_exchange, std::int64_t element)
      : Communicator(inner.rank(), inner.size(), "ep"),
        inner_(inner),
        nth_(nth_exchange),
        element_(element) {}
  [[noreturn]] void abort(int exit_code) override {
    fail(ExitCode::kFailure, "aborted with code {}", exit_code);
  }

 private:
  Work do_all_to_all_v(Tensor in, std::span<const std::int64_t> send_rows, Tensor out,
                       std::span<const std::int64_t> recv_rows) override {
    inner_.all_to_all_v(in, send_rows, out, recv_rows).wait();
    if (--nth_ == 0 && out.dtype == DType::kI64) ++out.ptr<std::int64_t>()[element_];
    if (nth_ == 0 && out.dtype == DType::kI32) ++out.ptr<std::int32_t>()[element_];
    return {};
  }
  Work do_all_reduce(Tensor t, ReduceOp op) override { return inner_.all_reduce(t, op); }
  Work do_all_gather(Tensor in, Tensor out) override { return inner_.all_gather(in, out); }
  Work do_reduce_scatter(Tensor in, Tensor out) override { return inner_.reduce_scatter(in, out); }
  Work do_broadcast(Tensor t, int root) override { return inner_.broadcast(t, root); }
  Work do_send(Tensor in, int peer) override { return inner_.send(in, peer); }
  Work do_recv(Tensor out, int peer) override { return inner_.recv(out, peer); }
  void do_barrier() override { inner_.barrier(); }
  std::unique_ptr<Communicator> do_split(std::span<const int> members, int, std::string name) override {
    return inner_.split(members, std::move(name));
  }

  Communicator& inner_;
  int nth_;
  std::int64_t element_;
};

// What plan() says when rank 1 of 2 misreads one element of its n-th exchange.
std::string failure_with(int nth_exchange, std::int64_t element) {
  const Batch batch = make_batch({4, 4}, 8, 2, at_random(2, first_experts(8)));
  return failure_of([&] {
    test::run_ranks(2, [&](Communicator& world) {
      Corrupting corrupting(world, world.rank() == 1 ? nth_exchange : -1, element);
      Rank rank(corrupting, batch);
      rank.plan();
    });
  });
}

}  // namespace

TEST_CASE("a count that arrives wrong is found before any payload, by layer, rank and expert", "[dispatch]") {
  // Rank 1 holds experts 4 .. 7 and receives 4 counts and a number of tokens from each rank.
  const std::string expert = failure_with(1, 2);
  INFO(expert);
  CHECK(expert.find("layers.3.moe: rank 0 of ep sends") != std::string::npos);
  CHECK(expert.find("slots for expert 6 to rank 1") != std::string::npos);
  const std::string tokens = failure_with(1, 4);
  INFO(tokens);
  CHECK(tokens.find("distinct tokens to rank 1") != std::string::npos);
}

TEST_CASE("a note that does not fit the counts names layer, rank and expert", "[dispatch]") {
  const std::string message = failure_with(3, 0);  // after counts and echo
  INFO(message);
  CHECK(message.find("layers.3.moe: slot 0 of rank 0 is for expert") != std::string::npos);
}

TEST_CASE("waiting for a slower rank's counts is booked as imbalance", "[dispatch]") {
  const Batch batch = make_batch({4, 4}, 8, 2, at_random(2, first_experts(8)));
  std::atomic<bool> first_is_ready = false;
  double imbalance = 0;
  test::run_ranks(2, [&](Communicator& ep) {
    Rank rank(ep, batch);
    PhaseClock clock;
    rank.ctx.clock = &clock;
    if (ep.rank() == 0) {
      first_is_ready = true;
    } else {
      while (!first_is_ready) std::this_thread::yield();
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    rank.plan();
    if (ep.rank() == 0) imbalance = clock.seconds()[static_cast<std::size_t>(Phase::kImbalance)];
    ENSURE(clock.current() == Phase::kInit, "the phase before was not taken up again");
  });
  CHECK(imbalance > 0.005);
}

TEST_CASE("experts that do not spread evenly, and indices out of range, are refused", "[dispatch]") {
  MetaCommunicator three(0, 3), one(0, 1);
  const Batch batch = make_batch({2}, 4, 1, [](std::int64_t) { return Indices{4}; });
  CHECK(failure_of([&] {
          TokenDispatcher(three, {.num_experts = 8, .top_k = 2, .layer = "layers.0.moe"});
        }) == "layers.0.moe: 8 experts cannot be spread evenly over ep = 3 workers");
  CHECK(failure_of([&] { Rank(one, batch).plan(); }).find("layers.3.moe: token 0 chose expert 4 of 4") !=
        std::string::npos);
}

TEST_CASE("the dry run counts the bytes and the memory of a balanced exchange", "[dispatch]") {
  // Four experts on two ranks, every pair of experts equally often: 5 of 6 tokens meet a given rank.
  const Indices pairs[] = {{0, 1}, {0, 2}, {0, 3}, {1, 2}, {1, 3}, {2, 3}};
  const bool reduce = GENERATE(false, true);
  const Batch batch = make_batch({12, 12}, 4, 2, [&](std::int64_t t) { return pairs[t % 6]; });
  struct Usage {
    double wire, traffic;
    std::size_t stash, work;
    bool operator==(const Usage&) const = default;
  };
  const auto use = [&](Communicator& ep, Device device) {
    Rank rank(ep, batch, {.reduce_at_expert = reduce}, device);
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
  Usage real[2] = {};
  test::run_ranks(2, [&](Communicator& ep) { real[ep.rank()] = use(ep, Device::kCpu); });
  for (int r = 0; r < 2; ++r) {
    MetaCommunicator meta(r, 2);
    const Usage dry = use(meta, Device::kMeta);
    CHECK(dry == real[r]);
  }
}

}  // namespace jevons
