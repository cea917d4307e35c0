// What pairs are for: with a wire that takes its time, the exchanges of one micro-batch travel under the
// products of another. Time is counted, not measured: FLOPs pass it, and an exchange takes what it is given.
// The ranks are threads because their clocks travel beside their messages.
#include <algorithm>
#include <memory>

#include "parallel/host_exchange.h"
#include "parallel/pipeline/simulate.h"
#include "tests/support/catch.h"
#include "tests/support/forwarding.h"
#include "tests/support/ranks.h"
#include "tests/support/tiny_model.h"
#include "trainer/model/forward_backward.h"
#include "trainer/model/local_stages.h"
#include "trainer/model/stage_split.h"

namespace jevons::test {
namespace {

// A rank's own time, in FLOPs.
class FlopClock final : public WorkListener {
 public:
  void on(const WorkCall& call) override { now += call.flops; }
  double now = 0;
};

// Payload of an all_to_all_v arrives `delay` after the last of its ranks sent it, a message when it was sent.
class SlowWire final : public Forwarding {
 public:
  SlowWire(std::unique_ptr<Communicator> own, Communicator& inner, FlopClock& clock, double delay)
      : Forwarding(inner, inner.name()), own_(std::move(own)), clock_(clock), delay_(delay) {}

 private:
  class Arrival final : public Work::Pending {
   public:
    Arrival(FlopClock& clock, double at) : clock_(clock), at_(at) {}
    void wait() override { clock_.now = std::max(clock_.now, at_); }

   private:
    FlopClock& clock_;
    double at_;
  };
  Work at(double time) const { return Work(std::make_unique<Arrival>(clock_, time)); }

  Work do_all_to_all_v(Tensor in, std::span<const std::int64_t> send_rows, Tensor out,
                       std::span<const std::int64_t> recv_rows) override {
    const double sent = jevons::all_reduce(inner(), clock_.now, ReduceOp::kMax);
    inner().all_to_all_v(in, send_rows, out, recv_rows).wait();
    const bool payload = in.dtype == DType::kF32 && in.shape.ndim() == 2;
    return at(sent + (payload ? delay_ : 0));
  }
  Work do_send(Tensor in, int peer) override {
    inner().send(in, peer).wait();
    inner().send(host_tensor(std::span(&clock_.now, 1)), peer).wait();
    return {};
  }
  Work do_recv(Tensor out, int peer) override {
    double sent = 0;
    inner().recv(out, peer).wait();
    inner().recv(host_tensor(std::span(&sent, 1)), peer).wait();
    return at(sent);
  }
  std::unique_ptr<Communicator> do_split(std::span<const int> members, int, std::string name) override {
    std::unique_ptr<Communicator> part = inner().split(members, std::move(name));
    Communicator& inner = *part;
    return std::make_unique<SlowWire>(std::move(part), inner, clock_, delay_);
  }

  std::unique_ptr<Communicator> own_;
  FlopClock& clock_;
  double delay_;
};

constexpr int kPp = 2, kChunks = 2;
constexpr std::int64_t kMicroBatches = 12;

ModelConfig layers_of_experts() {
  ModelConfig config = tiny_moe();
  config.moe.first_dense_layers = 0;
  config.num_layers = 4;
  return config;
}

// Time of the slowest of four ranks, pp 2 x ep 2, until all gradients are there.
double time_of(PipelineKind kind, PipelineOverlap overlap, double delay) {
  const int chunks = virtual_stages_of(kind).value_or(kChunks);
  const PipelineSchedule schedule = generate_schedule({kind, kPp, kMicroBatches, chunks, overlap});
  const std::vector<RankProgram> programs = lower(schedule);
  const ModelConfig config = layers_of_experts();
  const auto times = run_ranks(4, [&](Communicator& world) {
    FlopClock clock;
    SlowWire wire(nullptr, world, clock, delay);
    TestBed bed(wire, DType::kF32, {.dp = 2, .ep = 2, .pp = kPp});
    bed.ctx.listener = &clock;
    const int rank = bed.mesh.pp().rank();
    const std::vector<StageRange> all =
        stage_ranges(std::vector<std::int64_t>(static_cast<std::size_t>(kPp * chunks), 4 / (kPp * chunks)));
    std::vector<StageRange> mine;
    for (int chunk = 0; chunk < chunks; ++chunk)
      mine.push_back(all[static_cast<std::size_t>(schedule.shape.stage_of(rank, chunk))]);
    LocalStages stages(bed.store, config, mine);
    bed.place_weights();
    Stashes stashes(Device::kCpu, nullptr);
    Arena inbox(Device::kCpu, "inbox"), pair_work(Device::kCpu, "work of pairs");
    PipelineRank pipeline{.stashes = &stashes,
                          .pp = &bed.mesh.pp(),
                          .inbox = &inbox,
                          .pair_work = &pair_work,
                          .message_rows = 2 * config.seq_len};
    int chunk = 0;
    for (Stage& stage : stages.all())
      pipeline.stages.push_back({&stage, schedule.shape.stage_of(rank, chunk++)});
    const MicroBatch batch = random_batch(bed, config, 2, "batch");
    const Tensor figures = bed.tensor({1}, DType::kF64);
    clock.now = 0;
    forward_backward(bed.ctx, pipeline, programs[static_cast<std::size_t>(rank)],
                     {.token = 0.1, .micro_batch = 0.1, .sequence = 0.1, .position = 0.1},
                     {.read = [&](const Context&, std::int64_t) { return batch; },
                      .figures = [&](std::int64_t) { return figures; }});
    return clock.now;
  });
  return std::ranges::max(times);
}

}  // namespace

TEST_CASE("pairs hide what the expert exchanges of a micro-batch take", "[model][pairs][threads]") {
  const double plain = time_of(PipelineKind::kInterleaved, PipelineOverlap::kNone, 0);
  const double paired = time_of(PipelineKind::kInterleaved, PipelineOverlap::kPairs, 0);
  const double dual = time_of(PipelineKind::kDualPipeV, PipelineOverlap::kNone, 0);
  CHECK(paired <= 1.02 * plain);
  // A rank's two layers exchange four times forward and four times backward for each micro-batch.
  const double delay = 0.5 * plain / static_cast<double>(3 * kMicroBatches) / 4;  // half of a forward pass
  const double plain_slow = time_of(PipelineKind::kInterleaved, PipelineOverlap::kNone, delay);
  const double paired_slow = time_of(PipelineKind::kInterleaved, PipelineOverlap::kPairs, delay);
  const double dual_slow = time_of(PipelineKind::kDualPipeV, PipelineOverlap::kNone, delay);
  INFO("interleaved " << plain_slow / plain << ", with pairs " << paired_slow / paired << ", dualpipe_v "
                      << dual_slow / dual);
  CHECK(plain_slow > 1.25 * plain);
  // The simulator's exchanges hide as wholes and leave 0.16 and 0.22 of that; here what one pass computes
  // until it hands over may be shorter than the other's exchange. Counted: 0.36 and 0.42.
  CHECK(paired_slow - paired < 0.4 * (plain_slow - plain));
  CHECK(dual_slow - dual < 0.5 * (plain_slow - plain));
}

}  // namespace jevons::test
