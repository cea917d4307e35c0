#include "trainer/run/train.h"

#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <optional>
#include <vector>

#include "kernels/core/error.h"
#include "kernels/core/log.h"
#include "kernels/core/whereabouts.h"
#include "parallel/agree.h"
#include "parallel/host_exchange.h"
#include "trainer/io/format.h"
#include "trainer/run/run_accounting.h"
#include "trainer/run/run_report.h"
#include "trainer/run/watchdog_report.h"
#include "trainer/step/dry_run.h"

namespace jevons {
namespace {

// What fails inside a step, as a collective, the device or a kernel, does not know where in the model it is.
Error with_position(const Error& error, const Whereabouts* whereabouts) {
  const WorkerPlace place = whereabouts != nullptr ? whereabouts->now() : WorkerPlace();
  if (!place.in_step) return error;
  return Error(error.code(), fmt::format("{}: {}", describe_position(place), error.what()));
}

// Peaks by dry runs: of this worker, and of the one that needs most.
struct PredictedMemory {
  MemoryReport mine, most;
};

// The first worker of each rank of the pipeline runs dry; rank 0 logs the most. Collective.
PredictedMemory predict_memory(const RunConfig& config, Communicator& world) {
  const int stage_ranks = world.size() / config.parallel.layout.pp, place = world.rank() / stage_ranks;
  MemoryReport mine;
  agree(world, [&] {
    if (world.rank() % stage_ranks == 0) mine = dry_run(config, world.size(), place).memory;
  });
  const std::vector<MemoryReport> all = all_gather(world, std::span(&mine, 1));
  const MemoryReport most = std::ranges::max(all, {}, &MemoryReport::total);
  if (world.rank() == 0) {
    log_info("{} workers ({}), {} threads each; predicted peak memory of a worker {}", world.size(),
             config.parallel.layout.to_string(), config.threads,
             format_bytes(static_cast<double>(most.total())));
  }
  return {all[static_cast<std::size_t>(place * stage_ranks)], most};
}

// Before what this worker computes with is destroyed: the others may not come any more to what its device
// waits for. A device that does not let go would keep it from ever telling them.
void leave_alone(std::optional<ComputeDevice>& device, const Error& error, Communicator& world) {
  if (!device || device->cut_links()) return;
  log_error("{}; the device does not let go of what it does with other workers", error.what());
  log_flush();
  world.abort(static_cast<int>(error.code()));
}

}  // namespace

ExitCode train(const RunConfig& config, Communicator& world, PhaseClock& clock, const StartOptions& start) {
  RunAccounting account(config, world, clock, start.sign != nullptr ? start.sign->launch() : "");
  if (start.sign != nullptr) start.sign->booked();
  std::optional<ComputeDevice> device;  // these outlive an error: what to do before they end is decided then
  std::optional<RunReport> report;
  std::optional<Trainer> trainer;
  try {
    device.emplace(config.device, start.local_rank, world);
    const PredictedMemory predicted = predict_memory(config, world);
    device->require_memory(predicted.mine, config);
    report.emplace(config, world, clock, account, predicted.most);
    trainer.emplace(config, *device, clock, account, *report, start);
    return trainer->run();
  } catch (const AgreedError& e) {
    account.end_by_error(e.what(), e.code());
    leave_alone(device, e, world);
    throw;
  } catch (const Error& e) {
    const Error placed = with_position(e, clock.whereabouts());
    account.end_by_error(placed.what(), placed.code());
    leave_alone(device, placed, world);
    throw placed;
  } catch (const std::exception& e) {
    account.end_by_error(e.what(), ExitCode::kFailure);
    leave_alone(device, Error(ExitCode::kFailure, e.what()), world);
    throw;
  }
}

}  // namespace jevons
