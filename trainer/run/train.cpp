#include "trainer/run/train.h"

#include <fmt/format.h>

#include <exception>
#include <optional>

#include "kernels/core/error.h"
#include "kernels/core/log.h"
#include "kernels/core/whereabouts.h"
#include "parallel/agree.h"
#include "trainer/run/run_recorder.h"
#include "trainer/run/watchdog_report.h"

namespace jevons {
namespace {

// What fails inside a step, as a collective, the device or a kernel, does not know where in the model it is.
Error with_position(const Error& error, const Whereabouts* whereabouts) {
  const WorkerPlace place = whereabouts != nullptr ? whereabouts->now() : WorkerPlace();
  if (!place.in_step) return error;
  return Error(error.code(), fmt::format("{}: {}", describe_position(place), error.what()));
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
  RunRecorder recorder(config, world, clock, start.sign != nullptr ? start.sign->launch() : "");
  if (start.sign != nullptr) start.sign->booked();
  std::optional<ComputeDevice> device;  // these outlive an error: what to do before they end is decided then
  std::optional<Trainer> trainer;
  try {
    device.emplace(config.device, start.local_rank, world);
    device->require_memory(recorder.predict_memory(), config);
    trainer.emplace(config, *device, clock, recorder, start);
    return trainer->run();
  } catch (const AgreedError& e) {
    recorder.end_by_error(e.what(), e.code());
    leave_alone(device, e, world);
    throw;
  } catch (const Error& e) {
    const Error placed = with_position(e, clock.whereabouts());
    recorder.end_by_error(placed.what(), placed.code());
    leave_alone(device, placed, world);
    throw placed;
  } catch (const std::exception& e) {
    recorder.end_by_error(e.what(), ExitCode::kFailure);
    leave_alone(device, Error(ExitCode::kFailure, e.what()), world);
    throw;
  }
}

}  // namespace jevons
