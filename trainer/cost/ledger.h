// The account of a run: ledger.jsonl in the run directory, appended by rank 0, one JSON object a line, each
// written by one write() and carrying a CRC-32C. A launch record per start, heartbeats with cumulative
// totals, an exit record. LedgerPulse (ledger_pulse.h) writes heartbeats in time, whatever the run does.
// Format and definitions: docs/cost.md.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kernels/core/error.h"
#include "kernels/core/phase_clock.h"
#include "trainer/io/file.h"
#include "trainer/io/lineage.h"

namespace jevons {

// One start of a run: what is allocated, at what price, for what.
struct LaunchInfo {
  std::string run;  // name of the run
  std::vector<std::string> hosts;
  std::string device_type;  // "cpu", or the GPU's name; empty = unknown
  std::int64_t devices = 0;
  std::optional<double> price_per_device_hour;  // nothing = unknown: hours without money
  std::string currency;
  std::string project, purpose;
  std::string git_id, layout;
  std::int64_t total_steps = 0;      // where the run is to end, as known last; 0 = unknown
  std::string price_source;          // where the price comes from, for people
  double model_flops_per_token = 0;  // without recomputation; 0 = unknown
  double peak_tflops = 0;            // dense peak of one device; 0 = unknown
  std::string launch;                // identity of this start; empty: Ledger makes one
};

// A new identity of a start, or of one process of it: milliseconds since 1970, host, process.
std::string new_identity();

// The price as CostConfig holds it: negative means unknown.
inline std::optional<double> known_price(double price_per_device_hour) {
  return price_per_device_hour < 0 ? std::nullopt : std::optional(price_per_device_hour);
}

// Cumulative figures of one launch.
struct Totals {
  std::array<double, kNumPhases>
      device_seconds{};          // by phase, summed over all ranks, since the processes started
  std::int64_t step = 0;         // finished steps of the run
  std::int64_t tokens = 0;       // trained tokens of the run, those of lost steps not counted
  std::int64_t total_steps = 0;  // where the run is to end, from what it has trained so far; 0 = unknown
  Lineage lineage = {};          // of the run's steps
  std::optional<double>
      energy_joules;  // that the hosts' devices took since the launch; nothing: not measured everywhere
};

// Appends to the ledger of a run. Every record is flushed to disk before the call returns. Throws
// Error(kFailure) naming the file when that fails.
class Ledger {
 public:
  // Writes the launch record. `process_start`: when rank 0's process started; time before the record counts,
  // as init. The first heartbeat with totals says at which step the launch begins.
  Ledger(const std::string& path, const LaunchInfo& info,
         std::chrono::steady_clock::time_point process_start);
  // Without totals: no step has begun yet, all time so far is init.
  void heartbeat(const std::optional<Totals>& totals);
  // Last record of a launch; `reason` for people: "finished", "stopped by SIGTERM", the text of an error.
  void exit(const std::string& reason, ExitCode code, const std::optional<Totals>& totals);
  const std::string& launch() const { return launch_; }

 private:
  double elapsed() const;  // seconds since process_start

  File file_;
  std::int64_t devices_;
  std::chrono::steady_clock::time_point process_start_;
  std::string launch_;
};

// The last record of a launch: how long its workers lived, as their signs of life say (sign_of_life.h).
struct LaunchEnd {
  double elapsed = 0;    // seconds from the start of rank 0's process until the last worker ended
  double allocated = 0;  // device-seconds: the lives of all workers
};
void append_launch_end(const std::string& path, const std::string& launch, const LaunchEnd& end);

// A line of a ledger: JSON with its checksum as last member. Exposed for tests and tools that write ledgers.
std::string seal_ledger_line(const std::string& json_object);
// Appends a sealed record as a line of its own, also after one that a kill left without its end, and flushes.
void append_ledger_line(File& file, const std::string& line);
// Whether `line` (without newline) ends in a checksum, and whether that is right.
enum class LineSeal : std::uint8_t { kNone, kGood, kBroken };
LineSeal check_ledger_line(const std::string& line);

}  // namespace jevons
