// The checkpoints of a run: when one is due, its save beside training, what a failure to save means, and
// which older ones go.
#pragma once

#include <cstdint>
#include <future>
#include <optional>
#include <string>

#include "kernels/core/phase_clock.h"
#include "parallel/agree.h"
#include "trainer/checkpoint/saver.h"
#include "trainer/config/run_config.h"
#include "trainer/run/run_report.h"
#include "trainer/run/save_schedule.h"
#include "trainer/step/worker.h"

namespace jevons {

// Where a run's checkpoints lie.
std::string checkpoint_dir(const RunConfig& config);

// At an interval checkpoint.on_error says what a failure to save means; at the end it is always an error.
enum class SaveOccasion : std::uint8_t { kInterval, kEnd };

class RunSaver {
 public:
  // `world`: the worker's. All outlive this.
  RunSaver(const RunConfig& config, Communicator& world, PhaseClock& clock, Worker& worker,
           RunReport& report);

  // What the run goes on from: the step that is saved already, -1 for none; on rank 0 the number of the
  // newest checkpoint or return in its directory (Catalog).
  void stand_on(std::int64_t saved_step, std::uint64_t last_sequence);
  // Steps begin. `failures`: of the launches before this one; rank 0's counts.
  void begin(const FailureRecord& failures);

  // After a step, once: whether this rank wants it saved. All ranks know of an interval in steps; only rank 0
  // of checkpoint.interval = auto.
  bool is_due(std::int64_t step);
  // Whether this rank's file of the save under way is not finished.
  bool is_writing() const { return saver_.is_writing(); }

  // Collective, as all that follows. Commits the save under way, which takes the buffers. False if `step` is
  // saved then.
  bool make_way(std::int64_t step, SaveOccasion occasion);
  // After make_way; gives `state` its place in the order of checkpoints. Goes on beside training at an
  // interval, if it may.
  void save(TrainState& state, SaveOccasion occasion);
  // Of the save under way, if there is one; waits for the files.
  void commit(SaveOccasion occasion);

 private:
  void accept_failure(const AgreedError& error, SaveOccasion occasion, std::int64_t step) const;
  void delete_superfluous(std::int64_t committed);
  double seconds_in_phase() const;

  const RunConfig& config_;
  Communicator& world_;
  PhaseClock& clock_;
  Worker& worker_;
  RunReport& report_;
  std::int64_t saved_step_ = -1;     // newest step in a checkpoint, or in the one under way
  double stall_mark_ = 0;            // seconds of the checkpoint phase when the save under way began
  std::uint64_t last_sequence_ = 0;  // on rank 0: what makes the order of checkpoints and returns
  CheckpointSaver saver_;
  std::optional<SaveSchedule> schedule_;  // on rank 0, for checkpoint.interval = auto
  std::future<void> deleting_;            // older checkpoints, on rank 0
};

}  // namespace jevons
