#include "tests/cuda/nccl/dispatch.h"

#include <cstring>
#include <numeric>
#include <set>

#include "kernels/core/error.h"
#include "kernels/host_view.h"
#include "parallel/nccl/device_world.h"
#include "tests/cuda_emulation/control.h"
#include "tests/parallel/corrupting.h"
#include "tests/parallel/dispatch_fixture.h"

namespace jevons::test {
namespace {

// One rank's dispatcher on its GPU.
struct GpuRank {
  GpuRank(Communicator& ep, const Batch& batch, DispatchOptions options, Stream& stream)
      : batch(batch),
        stash(Device::kCuda, "stash", &stream),
        work(Device::kCuda, "work", &stream),
        dispatcher(ep, Rank::filled(options, batch)) {
    ctx = {.device = Device::kCuda, .stash = &stash, .work = &work, .stream = &stream};
    const std::int64_t tokens = batch.held(ep.rank()), slots = tokens * batch.top_k;
    indices = stash.alloc({tokens, batch.top_k}, DType::kI32);
    Indices mine(batch.indices.begin() + batch.first(ep.rank()) * batch.top_k,
                 batch.indices.begin() + batch.first(ep.rank()) * batch.top_k + slots);
    if (slots > 0) copy_and_wait(&stream, indices, {mine.data(), indices.shape, DType::kI32, Device::kCpu});
  }
  DispatchPlan plan() { return dispatcher.plan(ctx, indices, stash); }
  Tensor upload(const Tensor& host) {
    const Tensor t = stash.alloc(host.shape, host.dtype);
    if (t.numel() > 0) copy_and_wait(ctx.stream, t, host);
    return t;
  }

  const Batch& batch;
  Arena stash, work;
  TokenDispatcher dispatcher;
  Context ctx;
  Tensor indices;
};

void expect_equal(const Context& ctx, const char* what, const Tensor& gpu, const Tensor& host) {
  ENSURE(gpu.shape == host.shape && gpu.dtype == host.dtype, "{}: {} for {}", what, gpu.to_string(),
         host.to_string());
  if (host.numel() == 0) return;
  ENSURE(std::memcmp(host_view(ctx, gpu).data, host.data, host.bytes()) == 0, "{} differs", what);
}

void expect_equal(const Context& ctx, const DispatchPlan& gpu, const DispatchPlan& host) {
  ENSURE(gpu.rows == host.rows && gpu.expert_offsets == host.expert_offsets &&
             gpu.send_tokens == host.send_tokens && gpu.recv_tokens == host.recv_tokens &&
             gpu.send_slots == host.send_slots && gpu.recv_slots == host.recv_slots,
         "counts differ: {} rows for {}", gpu.rows, host.rows);
  expect_equal(ctx, "send_index", gpu.send_index, host.send_index);
  expect_equal(ctx, "expand", gpu.expand, host.expand);
  expect_equal(ctx, "slot_flat", gpu.slot_flat, host.slot_flat);
  expect_equal(ctx, "row_to_wire", gpu.row_to_wire, host.row_to_wire);
  expect_equal(ctx, "wire_to_row", gpu.wire_to_row, host.wire_to_row);
  expect_equal(ctx, "slot_row", gpu.slot_row, host.slot_row);
  if (host.dropped.defined()) expect_equal(ctx, "dropped", gpu.dropped, host.dropped);
  if (host.token_row.defined()) expect_equal(ctx, "token_row", gpu.token_row, host.token_row);
  if (host.reduce_index.defined()) expect_equal(ctx, "reduce_index", gpu.reduce_index, host.reduce_index);
}

// The hosts do everything first: a rank that waits for a host must not leave work in its stream that another
// rank's stream waits for.
void check_batch(Communicator& hosts, Communicator& gpus, Stream& stream, const Batch& batch,
                 DispatchOptions options) {
  Rank host(hosts, batch, options);
  const DispatchPlan host_plan = host.plan();
  const Tensor x = host.rows(5, DType::kF32, [](auto t, auto c) { return normal("x", t, c); });
  const Tensor host_rows = host.out(host_plan, x), host_home = host.home(host_plan, host_rows);
  const Tensor w = host.rows(batch.top_k, DType::kF32, [](auto t, auto k) { return normal("w", t, k); });
  const Tensor host_w = host.stash.alloc({host_plan.rows}, DType::kF32);
  host.dispatcher.out_scalars(host.ctx, host_plan, w, host_w);
  const Tensor host_back = host.stash.alloc(w.shape, DType::kF32);
  host.dispatcher.home_scalars(host.ctx, host_plan, host_w, host_back);

  GpuRank gpu(gpus, batch, options, stream);
  const DispatchPlan plan = gpu.plan();
  expect_equal(gpu.ctx, plan, host_plan);
  const TokenDispatcher& d = gpu.dispatcher;
  const Tensor rows = gpu.stash.alloc(host_rows.shape, DType::kF32),
               home = gpu.stash.alloc(host_home.shape, DType::kF32),
               w_rows = gpu.stash.alloc(host_w.shape, DType::kF32),
               w_back = gpu.stash.alloc(host_back.shape, DType::kF32);
  d.out_end(gpu.ctx, plan, d.out_begin(gpu.ctx, plan, gpu.upload(x)), rows);
  expect_equal(gpu.ctx, "rows", rows, host_rows);
  d.home_end(gpu.ctx, plan, d.home_begin(gpu.ctx, plan, rows), home);
  expect_equal(gpu.ctx, "what came home", home, host_home);
  d.out_scalars(gpu.ctx, plan, gpu.upload(w), w_rows);
  expect_equal(gpu.ctx, "scalars", w_rows, host_w);
  d.home_scalars(gpu.ctx, plan, w_rows, w_back);
  expect_equal(gpu.ctx, "scalars that came home", w_back, host_back);
  stream.synchronise();
}

template <class F>
void expect_failure(const char* words, F f) {
  try {
    f();
  } catch (const Error& error) {
    ENSURE(std::string_view(error.what()).find(words) != std::string_view::npos, "{} for {}", error.what(),
           words);
    return;
  }
  fail(ExitCode::kFailure, "no error where one should say: {}", words);
}

// Every rank reads the first number of the nth exchange wrong: of counts, echo and notes.
void check_misread(Communicator& gpus, Stream& stream, DispatchOptions options, int nth, const char* words) {
  const Batch batch = make_batch(std::vector<std::int64_t>(static_cast<std::size_t>(gpus.size()), 40), 8, 2,
                                 at_random(2, first_experts(8)));
  Corrupting corrupting(gpus, nth, 0, &stream);
  GpuRank rank(corrupting, batch, options, stream);
  rank.plan();
  rank.dispatcher.fetch_reports(rank.ctx);
  stream.synchronise();
  expect_failure(words, [&] { rank.dispatcher.check_reports(); });
  rank.dispatcher.check_reports();  // said once
}

// Steps of two layers whose numbers of rows differ: by the third the arenas have grown as far as they will.
void check_steady(Communicator& gpus, Stream& stream) {
  constexpr std::int64_t kTokens = 200, kTopK = 3;
  Arena stash(Device::kCuda, "stash", &stream), work(Device::kCuda, "work", &stream);
  const Context ctx{.device = Device::kCuda, .stash = &stash, .work = &work, .stream = &stream};
  const TokenDispatcher dispatcher(gpus, {.num_experts = 8, .top_k = kTopK, .layer = "layers.3.moe"});
  const Choose choose = at_random(kTopK, first_experts(8));
  std::set<std::int64_t> rows_seen;
  std::int64_t allocations = 0;
  for (std::int64_t step = 0; step < 20; ++step) {
    if (step == 3) allocations = emulation::device_allocations();
    stash.reset();
    work.reset();
    for (std::int64_t layer = 0; layer < 2; ++layer) {
      const std::int64_t first = ((2 * step + layer) * gpus.size() + gpus.rank()) * kTokens;
      Batch mine = make_batch({kTokens}, 8, kTopK, [&](std::int64_t t) { return choose(first + t); });
      const Tensor indices = stash.alloc({kTokens, kTopK}, DType::kI32);
      copy_and_wait(&stream, indices, {mine.indices.data(), indices.shape, DType::kI32, Device::kCpu});
      const std::int64_t rows = dispatcher.plan(ctx, indices, stash).rows;
      stream.synchronise();
      for (int i = 0; i < 4; ++i) zero_async(&stream, stash.alloc({rows, 1024}, DType::kF32));
      rows_seen.insert(rows);
    }
  }
  stream.synchronise();
  ENSURE(gpus.size() == 1 || rows_seen.size() > 10, "only {} numbers of rows", rows_seen.size());
  ENSURE(emulation::device_allocations() == allocations, "{} allocations after the third step",
         emulation::device_allocations() - allocations);
  const auto held = static_cast<double>(stash.held_bytes()), peak = static_cast<double>(stash.peak_bytes());
  ENSURE(held <= 1.1 * peak, "the stash holds {} bytes, {} at most were handed out", held, peak);
}

}  // namespace

void check_dispatch(Communicator& hosts) {
  Stream stream(Device::kCuda);
  const std::unique_ptr<Communicator> gpus = nccl::make_device_world(hosts, stream);
  std::vector<int> ranks(static_cast<std::size_t>(hosts.size()));
  std::iota(ranks.begin(), ranks.end(), 0);
  const std::unique_ptr<Communicator> apart = hosts.split(ranks, "ep");  // Rank gives it a meter
  // On more ranks the rows of one differ by more than an arena's headroom.
  if (hosts.size() <= 4) check_steady(*gpus, stream);
  auto all = batches(hosts.size());
  const std::vector<std::int64_t> many(static_cast<std::size_t>(hosts.size()), 300);
  all.push_back({"several blocks of slots", make_batch(many, 8, 3, at_random(3, first_experts(8)))});
  for (const auto& [name, batch] : all) {
    for (const bool reduce : {false, true}) {
      for (const double capacity : {0.0, 0.75})
        if (capacity == 0 || batch.even())
          check_batch(*apart, *gpus, stream, batch,
                      {.capacity_factor = capacity, .reduce_at_expert = reduce});
    }
  }
  const char* const note = "against the counts that it announced";
  check_misread(*gpus, stream, {}, 3, note);
  check_misread(*gpus, stream, {.capacity_factor = 1}, 3, note);
  const char* const counts = "slots for expert";
  check_misread(*gpus, stream, {.capacity_factor = 1}, 2, counts);
  // All misread what rank 0 announced: it hears so in the echoes, the others find that its notes do not fit.
  check_misread(*gpus, stream, {.capacity_factor = 1}, 1, gpus->rank() == 0 ? counts : note);
  const Batch wrong = make_batch(std::vector<std::int64_t>(static_cast<std::size_t>(hosts.size()), 2), 8, 1,
                                 [](std::int64_t token) { return Indices{token % 2 == 0 ? 1 : 8}; });
  expect_failure("layers.3.moe: token 1 chose expert 8 of 8",
                 [&] { GpuRank(*gpus, wrong, {}, stream).plan(); });
  GpuRank stray(*gpus, wrong, {.capacity_factor = 2}, stream);
  stray.plan();
  stray.dispatcher.fetch_reports(stray.ctx);
  stream.synchronise();
  expect_failure("layers.3.moe: 1 choices of tokens are none of 8 experts",
                 [&] { stray.dispatcher.check_reports(); });
}

}  // namespace jevons::test
