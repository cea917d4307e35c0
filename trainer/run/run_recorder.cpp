#include "trainer/run/run_recorder.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <type_traits>
#include <utility>

#include "kernels/core/device_runtime.h"
#include "kernels/core/host_name.h"
#include "kernels/core/log.h"
#include "kernels/cuda/attention.h"
#include "parallel/agree.h"
#include "parallel/host_exchange.h"
#include "trainer/io/format.h"
#include "trainer/optim/schedule.h"
#include "trainer/report/console_line.h"
#include "trainer/report/event_file.h"
#include "trainer/report/html_report.h"
#include "trainer/report/metrics_writer.h"
#include "trainer/run/host.h"
#include "trainer/run/host_energy.h"
#include "trainer/run/layer_loads.h"
#include "trainer/run/run_budget.h"
#include "trainer/run/run_ledger.h"
#include "trainer/step/dry_run.h"
#include "trainer/step/step_plan.h"

namespace jevons {
namespace {

void write_text(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::trunc);
  file << text;
  if (!file.flush()) fail(ExitCode::kFailure, "{}: cannot write", path);
}

}  // namespace

struct RunRecorder::Impl {
  RunConfig config;
  std::string yaml;
  Communicator& world;
  PhaseClock& clock;
  ScheduleSpan span;  // where the run ends; until steps begin, as if nothing were trained yet
  MemoryReport predicted;

  // Rank 0 only.
  std::map<std::string, std::string> passport;
  std::optional<RunLedger> ledger;
  std::optional<MetricsWriter> metrics;
  std::optional<EventFile> events;

  HostEnergy energy;
  std::optional<RunBudget> budget;  // rank 0 only
  std::string stop_reason;          // of the budget, rank 0 only; empty: go on

  // Since the last report.
  double report_seconds = 0;  // that rank 0's steps took
  std::int64_t report_step = 0, report_tokens = 0;
  std::int64_t detailed_part = -1;  // of the run, whose experts were reported last
  Totals totals;

  // At the last spread_of_ranks.
  std::int64_t spread_step = 0;
  double busy_seconds = 0, busy_seconds_of_all = 0;

  bool writes() const { return world.rank() == 0; }
  // Known only when they have run.
  void note_engines() {
    const std::string engines = fmt::format("{}", fmt::join(cuda::attention_engines(), "\n"));
    if (std::exchange(passport["attention_engines"], engines) == engines) return;
    write_text(config.run_dir + "/passport.json", nlohmann::json(passport).dump(2) + "\n");
  }

  // Refuses a start that the budget does not cover, on all ranks. Collective.
  void open_budget(const TrainState& state) {
    agree(world, [&] {
      if (!writes()) return;
      budget.emplace(config, world.size(), totals.energy_joules.has_value(), ledger->pulse().launch());
      const std::int64_t interval = config.checkpoint.interval, left = span.end - state.step;
      std::int64_t to_next = interval > 0 ? interval - state.step % interval : left;
      if (interval == CheckpointConfig::kAuto) to_next = 1;  // what a save costs is not known yet
      const std::int64_t steps = std::min(left, to_next);
      const std::int64_t sequences = steps * batch_size_at(config.train, state.consumed_samples);
      if (left > 0) budget->check_start(steps, sequences * config.model.seq_len);
    });
  }

  // Every rank's seconds by phase and every host's energy, in one sum. Collective.
  void gather_totals() {
    std::array<double, kNumPhases + 2> sums{};  // seconds by phase, joules, hosts that do not know theirs
    const std::array<double, kNumPhases> seconds = clock.seconds();
    std::copy(seconds.begin(), seconds.end(), sums.begin());
    if (energy.speaks_for_host()) {
      const std::optional<double> joules = energy.joules(HostEnergy::Freshness::kRecent);
      sums[kNumPhases] = joules.value_or(0);
      sums[kNumPhases + 1] = joules ? 0 : 1;
    }
    world.all_reduce({sums.data(), {kNumPhases + 2}, DType::kF64, Device::kCpu}).wait();
    std::copy_n(sums.begin(), kNumPhases, totals.device_seconds.begin());
    const bool all_known = sums[kNumPhases + 1] == 0;
    totals.energy_joules = all_known ? std::optional(sums[kNumPhases]) : std::nullopt;
  }

  // Since the last call, in an earlier step. Collective, after gather_totals().
  std::optional<RankSpread> spread_of_ranks(std::int64_t step) {
    const auto busy = [](const std::array<double, kNumPhases>& seconds) {
      return seconds[static_cast<std::size_t>(Phase::kData)] +
             seconds[static_cast<std::size_t>(Phase::kCompute)];
    };
    const double mine = busy(clock.seconds()), of_all = busy(totals.device_seconds);
    const auto steps = static_cast<double>(step - std::exchange(spread_step, step));
    const double per_step = (mine - std::exchange(busy_seconds, mine)) / steps;
    const double sum = (of_all - std::exchange(busy_seconds_of_all, of_all)) / steps;
    const std::int64_t size = world.size();
    if (size == 1) return std::nullopt;
    // One maximum carries the rank too: below the microseconds.
    const auto micros = static_cast<std::int64_t>(1e6 * per_step);
    std::array<std::int64_t, 2> most = {micros * size + world.rank(), -micros};
    world.all_reduce({most.data(), {2}, DType::kI64, Device::kCpu}, ReduceOp::kMax).wait();
    return RankSpread{.min = -1e-6 * static_cast<double>(most[1]),
                      .mean = sum / static_cast<double>(size),
                      .max = 1e-6 * static_cast<double>(most[0] / size),
                      .slowest = static_cast<int>(most[0] % size)};
  }

  // What waiting for slower ranks took of this launch, with its price if that is known.
  std::string describe_imbalance() const {
    const double waited = totals.device_seconds[static_cast<std::size_t>(Phase::kImbalance)];
    const auto price = known_price(config.cost.price_per_device_hour);
    return fmt::format(
        "waiting for slower workers: {} device-hours, {:.1f} % of this launch{}", format_device_hours(waited),
        100 * waited / own_device_seconds(),
        price ? ", " + format_money(waited / 3600 * *price, config.cost.currency) : std::string());
  }

  // The load of single experts is much text: about 200 steps of a run have it, the first and last among them.
  ExpertDetail expert_detail(std::int64_t step) {
    constexpr std::int64_t kSteps = 200;
    const std::int64_t part = step * kSteps / std::max<std::int64_t>(1, span.end);
    if (std::exchange(detailed_part, part) != part || step == span.end) return ExpertDetail::kEvery;
    return ExpertDetail::kNone;
  }

  double device_seconds() const { return ledger->before().device_seconds + own_device_seconds(); }

  double own_device_seconds() const {
    double sum = 0;
    for (double s : totals.device_seconds) sum += s;
    return sum;
  }

  // Nothing but a file to look at: what goes wrong with it must not fail a run that is done.
  void write_report() const {
    const std::string path = config.run_dir + "/report.html";
    try {
      write_html_report({config.run_dir}, path);
    } catch (const std::exception& e) {
      log_warning("{}: not written: {}", path, e.what());
    }
  }

  StepMetrics step_metrics(const TrainState& state, const StepOutcome& outcome) {
    StepMetrics m;
    const auto steps = static_cast<double>(std::max<std::int64_t>(1, state.step - report_step));
    const double elapsed = std::exchange(report_seconds, 0);
    m.step = state.step, m.total_steps = span.end, m.tokens = state.consumed_tokens;
    m.loss = outcome.loss, m.grad_norm = outcome.grad_norm, m.skipped = outcome.skipped;
    m.spike = outcome.spike, m.skipped_steps = state.step - state.optimizer_step;
    m.lr = learning_rate(config.optim, state.step - 1, span);
    m.step_seconds = elapsed / steps;
    if (elapsed > 0) {
      m.tokens_per_second = static_cast<double>(state.consumed_tokens - report_tokens) / elapsed;
    }
    m.devices = world.size();
    if (config.cost.peak_tflops > 0 && m.tokens_per_second) {
      m.mfu = model_flops_per_token(config.model) * *m.tokens_per_second /
              (config.cost.peak_tflops * 1e12 * static_cast<double>(m.devices));
    }
    m.device_seconds = device_seconds(), m.cost = ledger->money(own_device_seconds()),
    m.currency = config.cost.currency;
    m.eta_seconds = m.step_seconds * static_cast<double>(span.end - state.step);
    report_step = state.step, report_tokens = state.consumed_tokens;
    return m;
  }
};

RunRecorder::RunRecorder(const RunConfig& config, Communicator& world, PhaseClock& clock,
                         const std::string& launch)
    : impl_(new Impl{.config = config,
                     .yaml = dump_run_config(config),
                     .world = world,
                     .clock = clock,
                     .span = schedule_span(config.train, config.model.seq_len, {}),
                     .predicted = {},
                     .passport = {},
                     .ledger = {},
                     .metrics = {},
                     .events = {},
                     .energy = {},
                     .budget = {},
                     .stop_reason = {},
                     .totals = {}}) {
  const std::vector<std::string> hosts = gather_texts(world, host_name());
  agree(world, [&] {
    if (impl_->writes()) impl_->ledger.emplace(impl_->config, hosts, impl_->span.end, launch);
  });
  impl_->energy = HostEnergy(hosts, world.rank(), config.device);
  if (impl_->writes()) log_info("energy: {}", impl_->energy.describe());
}

RunRecorder::~RunRecorder() = default;

void RunRecorder::begin(const TrainState& state, const ScheduleSpan& span, const DataIdentity& data) {
  impl_->span = span;
  impl_->report_step = impl_->spread_step = state.step, impl_->report_tokens = state.consumed_tokens;
  impl_->gather_totals();
  impl_->totals.step = state.step, impl_->totals.tokens = state.consumed_tokens;
  impl_->totals.total_steps = span.end, impl_->totals.lineage = state.lineage;
  impl_->open_budget(state);
  if (!impl_->writes()) return;
  const std::string& dir = impl_->config.run_dir;
  impl_->ledger->begin(state, impl_->totals);
  write_text(dir + "/config.yaml", impl_->yaml);
  impl_->passport = passport(data);
  write_text(dir + "/passport.json", nlohmann::json(impl_->passport).dump(2) + "\n");
  impl_->metrics.emplace(dir + "/metrics.jsonl", state.step, state.lineage);
  impl_->events.emplace(dir, impl_->metrics->first_new_step());
}

void RunRecorder::step(const TrainState& state, const StepOutcome& outcome, Worker& worker) {
  const PhaseScope phase(&impl_->clock, Phase::kLog);
  impl_->gather_totals();
  impl_->totals.step = state.step, impl_->totals.tokens = state.consumed_tokens;
  impl_->report_seconds += outcome.seconds;
  const bool last = state.step == impl_->span.end;
  const bool due = last || state.step % std::max<std::int64_t>(1, impl_->config.train.log_interval) == 0;
  const auto ranks = due ? impl_->spread_of_ranks(state.step) : std::nullopt;
  const ArenaBytes arenas = due ? most_of_ranks(worker.arena_bytes(), impl_->world) : ArenaBytes();
  if (!impl_->writes()) return;
  if (due) {
    StepMetrics m = impl_->step_metrics(state, outcome);
    m.ranks = ranks;
    m.arena_peak_bytes = arenas.peak, m.arena_held_bytes = arenas.held;
    m.layers = layer_loads(worker.model(), outcome, impl_->expert_detail(state.step));
    impl_->metrics->write(m);
    impl_->events->write(m);
    fmt::print("{}\n", console_line(m));
    std::fflush(stdout);
    if (worker.ctx().device == Device::kCuda) impl_->note_engines();
  }
  impl_->stop_reason = impl_->budget->check(impl_->totals);
  impl_->ledger->pulse().update(impl_->totals);
}

void RunRecorder::validation(const ValidationMetrics& metrics) {
  if (!impl_->writes()) return;
  const PhaseScope phase(&impl_->clock, Phase::kLog);
  impl_->metrics->write(metrics);
  impl_->events->write(metrics);
  fmt::print("{}\n", console_line(metrics));
  std::fflush(stdout);
}

void RunRecorder::checkpoint(const SavedCheckpoint& saved, double stall) {
  if (!impl_->writes()) return;
  const PhaseScope phase(&impl_->clock, Phase::kLog);
  const CheckpointMetrics m{.step = saved.step,
                            .bytes = saved.bytes,
                            .stall_seconds = stall,
                            .write_seconds = saved.write_seconds,
                            .disk_seconds = saved.disk_seconds};
  impl_->metrics->write(m);
  const auto rate = [](std::optional<double> r) { return r ? format_bytes(*r) + "/s" : "unknown"; };
  log_info("step {}: saved {}, {} written in {:.3f} s ({}; the disk alone {}); training stalled for {:.3f} s",
           m.step, saved.path, format_bytes(m.bytes), m.write_seconds, rate(m.write_rate()),
           rate(m.disk_rate()), m.stall_seconds);
}

const MemoryReport& RunRecorder::predict_memory() {
  const RunConfig& config = impl_->config;
  Communicator& world = impl_->world;
  agree(world, [&] {
    if (!impl_->writes()) return;
    impl_->predicted = dry_run(config, world.size()).memory;
    log_info("{} workers ({}), {} threads each; predicted peak memory of a worker {}", world.size(),
             config.parallel.layout.to_string(), config.threads,
             format_bytes(static_cast<double>(impl_->predicted.total())));
  });
  static_assert(std::is_trivially_copyable_v<MemoryReport>);
  world.broadcast({&impl_->predicted, {sizeof(MemoryReport)}, DType::kU8, Device::kCpu}, 0).wait();
  return impl_->predicted;
}

FailureRecord RunRecorder::failures() const {
  return impl_->ledger->failures();
}

bool RunRecorder::out_of_budget() const {
  return !impl_->stop_reason.empty();
}

void RunRecorder::finish(std::string reason, ExitCode code, Worker& worker) {
  impl_->clock.enter(Phase::kShutdown);
  impl_->energy.joules(HostEnergy::Freshness::kNow);
  impl_->gather_totals();
  const MemoryReport measured = worker.memory();
  const ArenaBytes arenas = most_of_ranks(worker.arena_bytes(), impl_->world);
  if (!impl_->writes()) return;
  if (code == ExitCode::kTryAgain && out_of_budget()) reason = "stopped by the budget: " + impl_->stop_reason;
  impl_->ledger->pulse().update(impl_->totals);
  impl_->ledger->pulse().exit(reason, code);
  impl_->write_report();
  const MemoryReport& p = impl_->predicted;
  fmt::print(
      "memory per worker: weights, gradients and optimizer {}; activations and temporaries at most {}, "
      "predicted {} at balanced routing, held {}\n",
      format_bytes(static_cast<double>(measured.weights_and_grads + measured.optimizer)),
      format_bytes(static_cast<double>(arenas.peak)), format_bytes(static_cast<double>(p.stash + p.work)),
      format_bytes(static_cast<double>(arenas.held)));
  if (impl_->world.size() > 1) fmt::print("{}\n", impl_->describe_imbalance());
  if (worker.ctx().device == Device::kCuda) {
    const cuda::MemoryInfo gpu = cuda::memory_info();
    fmt::print("memory of the GPU: {} of {} in use, libraries and other processes included\n",
               format_bytes(static_cast<double>(gpu.total - gpu.free)),
               format_bytes(static_cast<double>(gpu.total)));
  }
  const auto money = impl_->ledger->money(impl_->own_device_seconds());
  fmt::print("{}: {} device-hours{}; everything is in {}\n", reason,
             format_device_hours(impl_->device_seconds()),
             money ? ", " + format_money(*money, impl_->config.cost.currency) : "", impl_->config.run_dir);
}

void RunRecorder::end_by_error(const std::string& message, ExitCode code) noexcept {
  if (!impl_->ledger) return;
  try {
    impl_->ledger->pulse().exit(message, code);
  } catch (const std::exception& e) {
    log_warning("the ledger has no exit record: {}", e.what());
  }
}

std::map<std::string, std::string> RunRecorder::passport(const DataIdentity& data) const {
  return {{"config", impl_->yaml},
          {"data", data.fingerprint},
          {"sources", data.sources},
          {"git", git_id()},
          {"layout", impl_->config.parallel.layout.to_string()},
          {"version", JEVONS_VERSION},
          {"workers", std::to_string(impl_->world.size())}};
}

}  // namespace jevons
