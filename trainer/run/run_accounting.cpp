#include "trainer/run/run_accounting.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <vector>

#include "kernels/core/host_name.h"
#include "kernels/core/log.h"
#include "parallel/agree.h"
#include "parallel/host_exchange.h"
#include "trainer/config/step_plan.h"

namespace jevons {

RunAccounting::RunAccounting(const RunConfig& config, Communicator& world, PhaseClock& clock,
                             const std::string& launch)
    : config_(config), world_(world), clock_(clock) {
  const std::vector<std::string> hosts = all_gather_texts(world, host_name());
  agree(world, [&] {
    // Until steps begin, as if nothing were trained yet.
    const std::int64_t steps = schedule_span(config.train, config.model.seq_len, {}).end;
    if (world.rank() == 0) ledger_.emplace(config, hosts, steps, launch);
  });
  energy_ = HostEnergy(hosts, world.rank(), config.device);
  if (world.rank() == 0) log_info("energy: {}", energy_.describe());
}

void RunAccounting::begin(const TrainState& state, const ScheduleSpan& span) {
  gather();
  totals_.step = state.step, totals_.tokens = state.consumed_tokens;
  totals_.total_steps = span.end, totals_.lineage = state.lineage;
  open_budget(state, span);
  if (ledger_) ledger_->begin(state, totals_);
}

void RunAccounting::step(const TrainState& state) {
  const PhaseScope phase(&clock_, Phase::kLog);
  gather();
  totals_.step = state.step, totals_.tokens = state.consumed_tokens;
  if (!ledger_) return;
  stop_reason_ = budget_->check(totals_);
  ledger_->pulse().update(totals_);
}

std::string RunAccounting::finish(const std::string& reason, ExitCode code) {
  clock_.enter(Phase::kShutdown);
  energy_.joules(HostEnergy::Freshness::kNow);
  gather();
  if (!ledger_) return reason;
  const bool by_budget = code == ExitCode::kTryAgain && out_of_budget();
  const std::string said = by_budget ? "stopped by the budget: " + stop_reason_ : reason;
  ledger_->pulse().update(totals_);
  ledger_->pulse().exit(said, code);
  return said;
}

void RunAccounting::end_by_error(const std::string& message, ExitCode code) noexcept {
  if (!ledger_) return;
  try {
    ledger_->pulse().exit(message, code);
  } catch (const std::exception& e) {
    log_warning("the ledger has no exit record: {}", e.what());
  }
}

double RunAccounting::own_device_seconds() const {
  return std::accumulate(totals_.device_seconds.begin(), totals_.device_seconds.end(), 0.0);
}

// Every rank's seconds by phase and every host's energy, in one sum. Collective.
void RunAccounting::gather() {
  std::array<double, kNumPhases + 2> sums{};  // seconds by phase, joules, hosts that do not know theirs
  const std::array<double, kNumPhases> seconds = clock_.seconds();
  std::copy(seconds.begin(), seconds.end(), sums.begin());
  if (energy_.speaks_for_host()) {
    const std::optional<double> joules = energy_.joules(HostEnergy::Freshness::kRecent);
    sums[kNumPhases] = joules.value_or(0);
    sums[kNumPhases + 1] = joules ? 0 : 1;
  }
  all_reduce(world_, std::span(sums));
  std::copy_n(sums.begin(), kNumPhases, totals_.device_seconds.begin());
  const bool all_known = sums[kNumPhases + 1] == 0;
  totals_.energy_joules = all_known ? std::optional(sums[kNumPhases]) : std::nullopt;
}

// Refuses a start that the budget does not cover, on all ranks. Collective.
void RunAccounting::open_budget(const TrainState& state, const ScheduleSpan& span) {
  agree(world_, [&] {
    if (!ledger_) return;
    budget_.emplace(config_, world_.size(), totals_.energy_joules.has_value(), ledger_->pulse().launch());
    const std::int64_t interval = config_.checkpoint.interval, left = span.end - state.step;
    std::int64_t to_next = interval > 0 ? interval - state.step % interval : left;
    if (interval == CheckpointConfig::kAuto) to_next = 1;  // what a save costs is not known yet
    const std::int64_t steps = std::min(left, to_next);
    const std::int64_t sequences = steps * batch_size_at(config_.train, state.consumed_samples);
    if (left > 0) budget_->check_start(steps, sequences * config_.model.seq_len);
  });
}

}  // namespace jevons
