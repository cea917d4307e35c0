// What a run tells the outside: console, metrics, TensorBoard, config.yaml, passport.json, report.html. It
// listens: nothing that it hears changes the run. Rank 0 writes. Trainer decides when, this decides how.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "kernels/core/phase_clock.h"
#include "parallel/communicator.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/saver.h"
#include "trainer/config/run_config.h"
#include "trainer/optim/schedule.h"
#include "trainer/report/event_file.h"
#include "trainer/report/metrics_writer.h"
#include "trainer/report/step_metrics.h"
#include "trainer/run/layer_loads.h"
#include "trainer/run/run_accounting.h"
#include "trainer/step/train_step.h"

namespace jevons {

class RunReport {
 public:
  // `predicted`: peak memory of a worker, by a dry run. `config` and `account` outlive this.
  RunReport(const RunConfig& config, Communicator& world, PhaseClock& clock, const RunAccounting& account,
            const MemoryReport& predicted);

  // Steps begin, at `state`, with those of `span` before them. `passport`: as make_passport makes it.
  void begin(const TrainState& state, const ScheduleSpan& span,
             const std::map<std::string, std::string>& passport);
  // After every step that the account has taken. Collective.
  void step(const TrainState& state, const StepOutcome& outcome, Worker& worker);
  void validation(const ValidationMetrics& metrics);
  // `stall`: seconds that this checkpoint has held up training.
  void checkpoint(const SavedCheckpoint& saved, double stall);
  // Last words, after those of the account: why the run ended, totals, memory against the dry run.
  // Collective.
  void finish(const std::string& reason, Worker& worker);

 private:
  bool writes() const { return world_.rank() == 0; }
  void write_passport() const;
  void note_engines();
  std::optional<RankSpread> spread_of_ranks(std::int64_t step);
  ExpertDetail expert_detail(std::int64_t step);
  StepMetrics step_metrics(const TrainState& state, const StepOutcome& outcome);
  std::string describe_waiting(const char* what, Phase phase) const;
  void print_memory(const MemoryReport& measured, const ArenaBytes& arenas) const;
  void write_page() const;

  const RunConfig& config_;
  Communicator& world_;
  PhaseClock& clock_;
  const RunAccounting& account_;
  MemoryReport predicted_;
  double flops_per_token_ = 0, mtp_flops_per_token_ = 0;  // of the model (ModelCounts)
  ScheduleSpan span_;                                     // where the run ends

  // Rank 0 only.
  std::map<std::string, std::string> passport_;
  std::optional<MetricsWriter> metrics_;
  std::optional<EventFile> events_;

  // Since the last report.
  double report_seconds_ = 0;  // that rank 0's steps took
  std::int64_t report_step_ = 0, report_tokens_ = 0;
  std::int64_t detailed_part_ = -1;  // of the run, whose experts were reported last

  // At the last spread_of_ranks.
  std::int64_t spread_step_ = 0;
  double busy_seconds_ = 0, busy_seconds_of_all_ = 0;
};

}  // namespace jevons
