// Time and idle share of a pipeline's step beside what the simulator says of them, given the times that this
// machine's stages take for F, B and W: mpirun -n P bench_pipeline CONFIG [KEY=VALUE]... with parallel.pp =
// P. Medians of --repeats; stages are timed on all ranks at once, as they run in a step.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/core/error.h"
#include "kernels/core/rng.h"
#include "kernels/elementwise.h"
#include "parallel/host_exchange.h"
#include "parallel/mpi/mpi_session.h"
#include "parallel/pipeline/simulate.h"
#include "tests/bench/measure.h"
#include "trainer/step/worker.h"

namespace jevons::bench {
namespace {

using Clock = std::chrono::steady_clock;

double since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

class PipelineBench {
 public:
  PipelineBench(const RunConfig& config, Communicator& world, int repeats)
      : world_(world),
        repeats_(repeats),
        micro_batches_(config.train.global_batch_size / sequences_per_pass(config)),
        worker_(config, world, {.device = Device::kCpu}, &clock_),
        scales_{.token = 1e-4,
                .micro_batch = 1e-2,
                .sequence = 1e-2,
                .position = 1e-4,
                .mtp = std::vector<double>(static_cast<std::size_t>(config.model.mtp.depth), 1e-5)} {}

  // Of every stage of the model, on every rank.
  PipelineTimes measure_stages() {
    const auto stages = all_stages(worker_.config()).size();
    std::vector<double> seconds(3 * stages);
    for (const PipelineRank::Place& place : worker_.pipeline().stages) {
      const StageTimes times = measure(*place.stage, place.number);
      double* at = seconds.data() + 3 * place.number;
      at[0] = times.forward, at[1] = times.backward_input, at[2] = times.backward_weight;
    }
    all_reduce(world_, std::span(seconds));
    PipelineTimes times;
    for (std::size_t s = 0; s < stages; ++s)
      times.stages.push_back({seconds[3 * s], seconds[3 * s + 1], seconds[3 * s + 2]});
    return times;
  }

  struct Step {
    double seconds = 0;  // from the first action of a rank to the last one of all
    double idle = 0;     // share in which the mean rank waits for other stages
  };
  Step measure_step() {
    std::vector<double> seconds, idle;
    for (int i = -2; i < repeats_; ++i) {
      const Step step = run_step();
      if (i >= 0) seconds.push_back(step.seconds), idle.push_back(step.idle);
    }
    return {median(seconds), median(idle)};
  }

  PipelineFigures simulated(const PipelineTimes& times) const {
    return simulate(step_schedule(worker_.config().parallel, micro_batches_), times);
  }

 private:
  MicroBatch read(const Context& ctx, std::int64_t micro_batch) const {
    const RunConfig& config = worker_.config();
    const std::int64_t rows = sequences_per_pass(config) * config.model.seq_len;
    const RandomStream stream(1, fmt::format("micro-batch {}", micro_batch));
    const auto tokens = [&](std::uint64_t first) {
      const Tensor t = ctx.stash->alloc({rows}, DType::kI32);
      for (std::int64_t i = 0; i < rows; ++i) {
        t.ptr<std::int32_t>()[i] = static_cast<std::int32_t>(stream.below(
            first + static_cast<std::uint64_t>(i), static_cast<std::uint64_t>(config.model.vocab_size)));
      }
      return t;
    };
    return {.tokens = tokens(0), .targets = tokens(1U << 30), .doc_start = {}};
  }

  // Median seconds of `run`, which all ranks start together.
  double together(const std::function<void()>& run) {
    world_.barrier();
    const auto begin = Clock::now();
    run();
    return since(begin);
  }

  // All ranks have as many stages, so that they come here equally often.
  StageTimes measure(Stage& stage, std::int64_t number) {
    const Context& ctx = worker_.ctx();
    const RunConfig& config = worker_.config();
    const bool halves = splits_backward();
    std::vector<double> forward, input, weight;
    for (int i = -2; i < repeats_; ++i) {
      worker_.reset_arenas();
      Stage::Saved saved;
      const Shape shape{worker_.pipeline().message_rows, config.model.hidden_size};
      const auto rows = [&](bool wanted) {
        if (!wanted) return Tensor{};
        const Tensor t = ctx.stash->alloc(shape, ctx.compute);
        fill_zero(ctx, t);
        return t;
      };
      const Tensor x = rows(!stage.range().embedding), dy = rows(!stage.range().head);
      const Tensor figures = stage.range().head ? worker_.figures().add_row(ctx) : Tensor{};
      const double f = together([&] { stage.forward(ctx, read(ctx, number), figures, saved, x); });
      ctx.work->reset();
      double b = 0, w = 0;
      if (halves) {
        b = together([&] { stage.backward_input(ctx, saved, scales_, dy); });
        ctx.work->reset();
        w = together([&] { stage.backward_weight(ctx, saved); });
      } else {
        b = together([&] { stage.backward(ctx, saved, scales_, {}, dy); });
      }
      worker_.figures().clear();
      if (i >= 0) forward.push_back(f), input.push_back(b), weight.push_back(w);
    }
    worker_.stages().end_step(ctx, BiasUpdate::kSkip);
    return {median(forward), median(input), median(weight)};
  }

  bool splits_backward() const {
    const PipelineSchedule schedule = step_schedule(worker_.config().parallel, micro_batches_);
    return std::ranges::any_of(schedule.ranks.front(), [](const Action& action) {
      return action.kind == ActionKind::kBackwardInput;
    });
  }

  Step run_step() {
    const Context& ctx = worker_.ctx();
    const auto waited = [&] { return clock_.seconds()[static_cast<std::size_t>(Phase::kBubble)]; };
    const PassHooks hooks{.read = [&](const Context& c, std::int64_t i) { return read(c, i); },
                          .figures = [&](std::int64_t) { return worker_.figures().add_row(ctx); }};
    world_.barrier();
    const double before = waited();
    const auto begin = Clock::now();
    forward_backward(ctx, worker_.pipeline(), worker_.plan().training(micro_batches_), scales_, hooks);
    {
      const PhaseScope phase(&clock_, Phase::kBubble);
      world_.barrier();
    }
    const double seconds = since(begin), idle = (waited() - before) / seconds;
    worker_.figures().clear();
    worker_.stages().end_step(ctx, BiasUpdate::kSkip);
    return {all_reduce(world_, seconds, ReduceOp::kMax), all_reduce(world_, idle) / world_.size()};
  }

  Communicator& world_;
  int repeats_;
  std::int64_t micro_batches_;
  PhaseClock clock_;
  Worker worker_;
  LossScales scales_;
};

void run(const std::string& path, const std::vector<std::string>& overrides, int repeats,
         Communicator& world) {
  RunConfig config = load_run_config(path, overrides, {.world = world.size()});
  if (config.parallel.layout.pp != world.size())
    fail(ExitCode::kUsage, "bench_pipeline: parallel.pp = {} for {} ranks", config.parallel.layout.pp,
         world.size());
  config.threads = 1;
  PipelineBench bench(config, world, repeats);
  const PipelineTimes times = bench.measure_stages();
  const PipelineBench::Step step = bench.measure_step();
  if (world.rank() != 0) return;
  const PipelineFigures figures = bench.simulated(times);
  double busy = 0;
  for (const RankFigures& rank : figures.ranks) busy += rank.busy;
  const double idle = 1 - busy / (figures.makespan * static_cast<double>(figures.ranks.size()));
  for (std::size_t s = 0; s < times.stages.size(); ++s) {
    const StageTimes& t = times.stages[s];
    fmt::print("stage {}: F {:.2f} ms, B {:.2f} ms, W {:.2f} ms\n", s, 1e3 * t.forward,
               1e3 * t.backward_input, 1e3 * t.backward_weight);
  }
  fmt::print("step: {:.1f} ms, simulated {:.1f} ms, ratio {:.3f}\n", 1e3 * step.seconds,
             1e3 * figures.makespan, step.seconds / figures.makespan);
  fmt::print("idle: {:.1f} % of a rank's time, simulated {:.1f} %\n", 100 * step.idle, 100 * idle);
}

}  // namespace
}  // namespace jevons::bench

int main(int argc, char** argv) {
  using namespace jevons;
  CLI::App app("Pipeline steps beside the simulator");
  std::string path;
  std::vector<std::string> overrides;
  int repeats = 15;
  app.add_option("config", path)->required();
  app.add_option("overrides", overrides);
  app.add_option("--repeats", repeats)->check(CLI::PositiveNumber);
  CLI11_PARSE(app, argc, argv);
  MpiSession session;
  try {
    bench::run(path, overrides, repeats, session.world());
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    session.world().abort(1);
  }
  return 0;
}
