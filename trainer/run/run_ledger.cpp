#include "trainer/run/run_ledger.h"

#include <chrono>
#include <filesystem>
#include <utility>

#include "kernels/core/error.h"
#include "kernels/core/log.h"
#include "trainer/config/step_plan.h"
#include "trainer/cost/lives.h"
#include "trainer/io/format.h"
#include "trainer/model/model_counts.h"
#include "trainer/run/host.h"

namespace jevons {
namespace {

// Makes the run's directory, and books what earlier starts left there. Returns the path of the ledger.
std::string prepare_ledger(const RunConfig& config, const std::string& own_launch) {
  std::error_code error;
  std::filesystem::create_directories(config.run_dir, error);
  if (error) {
    fail(ExitCode::kUsage, "{}: cannot make the run directory: {}", config.run_dir, error.message());
  }
  const std::string path = ledger_of(config.run_dir);
  if (std::filesystem::exists(path)) book_lives(config.run_dir, own_launch);
  return path;
}

LedgerContents other_launches(const std::string& path, const std::string& own_launch) {
  LedgerContents contents = read_ledger(path);
  std::erase_if(contents.launches, [&](const Launch& launch) { return launch.id == own_launch; });
  return contents;
}

LaunchInfo launch_info(const RunConfig& config, const std::vector<std::string>& hosts,
                       std::int64_t total_steps, const std::string& launch) {
  const CostConfig& c = config.cost;
  return {.run = config.name,
          .hosts = hosts,
          .device_type = device_type(config),
          .devices = std::ssize(hosts),
          .price_per_device_hour = known_price(c.price_per_device_hour),
          .currency = c.currency,
          .project = c.project,
          .purpose = c.purpose,
          .git_id = git_id(),
          .layout = config.parallel.layout.to_string(),
          .total_steps = total_steps,
          .price_source = c.price_source,
          .model_flops_per_token = count_model(config.model).flops_per_token,
          .peak_tflops = c.peak_tflops,
          .launch = launch};
}

}  // namespace

std::string device_type(const RunConfig& config) {
  return config.cost.device_type.empty() ? "cpu" : config.cost.device_type;
}

LaunchInfo early_launch_info(const RunConfig& config, int workers) {
  LaunchInfo info = launch_info(config, {}, steps_to_come(config.train, config.model.seq_len, {}), "");
  info.devices = workers;
  if (config.device != DeviceChoice::kCpu) info.device_type = config.cost.device_type;
  return info;
}

RunLedger::RunLedger(const RunConfig& config, const std::vector<std::string>& hosts, std::int64_t total_steps,
                     const std::string& launch)
    : config_(config),
      pulse_(Ledger(prepare_ledger(config, launch), launch_info(config, hosts, total_steps, launch),
                    process_start_time()),
             std::chrono::duration<double>(config.cost.heartbeat_seconds)),
      earlier_(other_launches(ledger_of(config.run_dir), pulse_.launch())),
      before_(account_of(earlier_).total),
      failures_(failure_record(account_of(earlier_))) {}

void RunLedger::begin(const TrainState& state, const Totals& totals) {
  pulse_.update(totals);
  LedgerContents launches = std::exchange(earlier_, {});
  if (launches.launches.empty()) return;
  std::int64_t reached = state.step, killed = 0;
  for (const Launch& launch : launches.launches) {
    if (launch.start) reached = launch.beats.back().totals.step;
    if (!launch.exit) ++killed;
  }
  Launch own;
  own.start = {state.step, state.consumed_tokens, state.lineage};
  own.beats.resize(1);
  own.beats.front().totals.step = state.step;
  launches.launches.push_back(std::move(own));
  const double rework = account_of(launches).total.rework;
  log_info(
      "account: {} launches before this one, {} of them without an exit record, took {} device-hours, {} of "
      "them rework of steps that were lost; now {} steps more are lost, {} device-hours",
      before_.launches, killed, format_device_hours(before_.device_seconds),
      format_device_hours(before_.rework), std::max<std::int64_t>(0, reached - state.step),
      format_device_hours(rework - before_.rework));
}

std::optional<double> RunLedger::money(double own_device_seconds) const {
  const std::optional<double> price = known_price(config_.cost.price_per_device_hour);
  const bool is_first = before_.launches == 0;
  const std::optional<double> before = is_first ? 0.0 : before_.single_amount();
  const bool same_currency = is_first || before_.money.contains(config_.cost.currency);
  if (!price || !before || !same_currency) return std::nullopt;
  return *before + *price * own_device_seconds / 3600;
}

}  // namespace jevons
