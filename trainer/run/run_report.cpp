#include "trainer/run/run_report.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <utility>

#include "kernels/attention.h"
#include "kernels/core/device.h"
#include "kernels/core/error.h"
#include "kernels/core/log.h"
#include "parallel/host_exchange.h"
#include "trainer/io/format.h"
#include "trainer/model/model_counts.h"
#include "trainer/report/console_line.h"
#include "trainer/report/html_report.h"

namespace jevons {
namespace {

void write_text(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::trunc);
  file << text;
  if (!file.flush()) fail(ExitCode::kFailure, "{}: cannot write", path);
}

std::string bytes_text(std::size_t bytes) {
  return format_bytes(static_cast<double>(bytes));
}

template <class Metrics>
void print_line(const Metrics& metrics) {
  fmt::print("{}\n", console_line(metrics));
  std::fflush(stdout);
}

}  // namespace

RunReport::RunReport(const RunConfig& config, Communicator& world, PhaseClock& clock,
                     const RunAccounting& account, const MemoryReport& predicted)
    : config_(config), world_(world), clock_(clock), account_(account), predicted_(predicted) {
  const ModelCounts counts = count_model(config.model);
  flops_per_token_ = counts.flops_per_token;
  mtp_flops_per_token_ = counts.mtp.flops_per_token;
}

void RunReport::begin(const TrainState& state, const ScheduleSpan& span,
                      const std::map<std::string, std::string>& passport) {
  span_ = span;
  report_step_ = spread_step_ = state.step, report_tokens_ = state.consumed_tokens;
  if (!writes()) return;
  passport_ = passport;
  write_text(config_.run_dir + "/config.yaml", config_.to_yaml());
  write_passport();
  metrics_.emplace(config_.run_dir + "/metrics.jsonl", state.step, state.lineage);
  events_.emplace(config_.run_dir, metrics_->first_new_step());
}

void RunReport::step(const TrainState& state, const StepOutcome& outcome, Worker& worker) {
  const PhaseScope phase(&clock_, Phase::kLog);
  report_seconds_ += outcome.seconds;
  const bool last = state.step == span_.end;
  if (!last && state.step % std::max<std::int64_t>(1, config_.train.log_interval) != 0) return;
  const std::optional<RankSpread> ranks = spread_of_ranks(state.step);
  const ArenaBytes arenas = most_of_ranks(worker.arena_bytes(), world_);
  if (!writes()) return;
  StepMetrics m = step_metrics(state, outcome);
  m.ranks = ranks;
  m.arena_peak_bytes = arenas.peak, m.arena_held_bytes = arenas.held;
  m.layers = layer_loads(outcome, expert_detail(state.step));
  metrics_->write(m);
  events_->write(m);
  print_line(m);
  if (worker.ctx().device == Device::kCuda) note_engines();
}

void RunReport::validation(const ValidationMetrics& metrics) {
  if (!writes()) return;
  const PhaseScope phase(&clock_, Phase::kLog);
  metrics_->write(metrics);
  events_->write(metrics);
  print_line(metrics);
}

void RunReport::checkpoint(const SavedCheckpoint& saved, double stall) {
  if (!writes()) return;
  const PhaseScope phase(&clock_, Phase::kLog);
  const CheckpointMetrics m{.step = saved.step,
                            .bytes = saved.bytes,
                            .stall_seconds = stall,
                            .write_seconds = saved.write_seconds,
                            .disk_seconds = saved.disk_seconds};
  metrics_->write(m);
  const auto rate = [](std::optional<double> r) { return r ? format_bytes(*r) + "/s" : "unknown"; };
  log_info("step {}: saved {}, {} written in {:.3f} s ({}; the disk alone {}); training stalled for {:.3f} s",
           m.step, saved.path, format_bytes(m.bytes), m.write_seconds, rate(m.write_rate()),
           rate(m.disk_rate()), m.stall_seconds);
}

void RunReport::finish(const std::string& reason, Worker& worker) {
  const MemoryReport measured = worker.memory();
  const ArenaBytes arenas = most_of_ranks(worker.arena_bytes(), world_);
  if (!writes()) return;
  write_page();
  print_memory(measured, arenas);
  if (world_.size() > 1)
    fmt::print("{}\n", describe_waiting("waiting for slower workers", Phase::kImbalance));
  if (config_.parallel.layout.pp > 1)
    fmt::print("{}\n", describe_waiting("waiting for other stages (bubble)", Phase::kBubble));
  if (worker.ctx().device == Device::kCuda) {
    const device::MemoryInfo gpu = device::memory_info();
    fmt::print("memory of the GPU: {} of {} in use, libraries and other processes included\n",
               bytes_text(gpu.total - gpu.free), bytes_text(gpu.total));
  }
  const std::optional<double> money = account_.money();
  fmt::print("{}: {} device-hours{}; everything is in {}\n", reason,
             format_device_hours(account_.device_seconds()),
             money ? ", " + format_money(*money, config_.cost.currency) : "", config_.run_dir);
}

void RunReport::write_passport() const {
  write_text(config_.run_dir + "/passport.json", nlohmann::json(passport_).dump(2) + "\n");
}

// Known only when they have run.
void RunReport::note_engines() {
  const std::string engines = fmt::format("{}", fmt::join(attention_engines(), "\n"));
  if (std::exchange(passport_["attention_engines"], engines) != engines) write_passport();
}

// Since the last call, in an earlier step. Collective.
std::optional<RankSpread> RunReport::spread_of_ranks(std::int64_t step) {
  const auto busy = [](const std::array<double, kNumPhases>& seconds) {
    return seconds[static_cast<std::size_t>(Phase::kData)] +
           seconds[static_cast<std::size_t>(Phase::kCompute)];
  };
  const double mine = busy(clock_.seconds()), of_all = busy(account_.totals().device_seconds);
  const auto steps = static_cast<double>(step - std::exchange(spread_step_, step));
  const double per_step = (mine - std::exchange(busy_seconds_, mine)) / steps;
  const double sum = (of_all - std::exchange(busy_seconds_of_all_, of_all)) / steps;
  const std::int64_t size = world_.size();
  if (size == 1) return std::nullopt;
  // One maximum carries the rank too: below the microseconds.
  const auto micros = static_cast<std::int64_t>(1e6 * per_step);
  std::array<std::int64_t, 2> most = {micros * size + world_.rank(), -micros};
  all_reduce(world_, std::span(most), ReduceOp::kMax);
  return RankSpread{.min = -1e-6 * static_cast<double>(most[1]),
                    .mean = sum / static_cast<double>(size),
                    .max = 1e-6 * static_cast<double>(most[0] / size),
                    .slowest = static_cast<int>(most[0] % size)};
}

// The load of single experts is much text: about 200 steps of a run have it, the first and last among them.
ExpertDetail RunReport::expert_detail(std::int64_t step) {
  constexpr std::int64_t kSteps = 200;
  const std::int64_t part = step * kSteps / std::max<std::int64_t>(1, span_.end);
  if (std::exchange(detailed_part_, part) != part || step == span_.end) return ExpertDetail::kEvery;
  return ExpertDetail::kNone;
}

StepMetrics RunReport::step_metrics(const TrainState& state, const StepOutcome& outcome) {
  StepMetrics m;
  const auto steps = static_cast<double>(std::max<std::int64_t>(1, state.step - report_step_));
  const double elapsed = std::exchange(report_seconds_, 0);
  m.step = state.step, m.total_steps = span_.end, m.tokens = state.consumed_tokens;
  m.mtp_losses = outcome.mtp_losses;
  m.largest_logit = outcome.largest_logit;
  m.loss = outcome.loss, m.grad_norm = outcome.grad_norm, m.skipped = outcome.skipped;
  m.spike = outcome.spike, m.skipped_steps = state.step - state.optimizer_step;
  m.lr = learning_rate(config_.optim, state.step - 1, span_, state.consumed_tokens);
  m.step_seconds = elapsed / steps;
  if (elapsed > 0) {
    m.tokens_per_second = static_cast<double>(state.consumed_tokens - report_tokens_) / elapsed;
  }
  m.devices = world_.size();
  if (config_.cost.peak_tflops > 0 && m.tokens_per_second) {
    const double tokens_per_peak =
        *m.tokens_per_second / (config_.cost.peak_tflops * 1e12 * static_cast<double>(m.devices));
    m.mfu = flops_per_token_ * tokens_per_peak;
    if (config_.model.mtp.depth > 0) m.mtp_mfu = mtp_flops_per_token_ * tokens_per_peak;
  }
  m.device_seconds = account_.device_seconds(), m.cost = account_.money();
  m.currency = config_.cost.currency;
  m.eta_seconds = m.step_seconds * static_cast<double>(span_.end - state.step);
  report_step_ = state.step, report_tokens_ = state.consumed_tokens;
  return m;
}

// What a phase of waiting took of this launch, with its price if that is known.
std::string RunReport::describe_waiting(const char* what, Phase phase) const {
  const double waited = account_.totals().device_seconds[static_cast<std::size_t>(phase)];
  const auto price = known_price(config_.cost.price_per_device_hour);
  return fmt::format("{}: {} device-hours, {:.1f} % of this launch{}", what, format_device_hours(waited),
                     100 * waited / account_.own_device_seconds(),
                     price ? ", " + format_money(waited / 3600 * *price, config_.cost.currency) : "");
}

void RunReport::print_memory(const MemoryReport& measured, const ArenaBytes& arenas) const {
  fmt::print(
      "memory per worker: weights, gradients and optimizer {}; activations and temporaries at most {}, "
      "predicted {} at balanced routing, held {}\n",
      bytes_text(measured.weights_and_grads + measured.optimizer),
      format_bytes(static_cast<double>(arenas.peak)), bytes_text(predicted_.stash + predicted_.work),
      format_bytes(static_cast<double>(arenas.held)));
}

// Nothing but a file to look at: what goes wrong with it must not fail a run that is done.
void RunReport::write_page() const {
  const std::string path = config_.run_dir + "/report.html";
  try {
    write_html_report({config_.run_dir}, path);
  } catch (const std::exception& e) {
    log_warning("{}: not written: {}", path, e.what());
  }
}

}  // namespace jevons
