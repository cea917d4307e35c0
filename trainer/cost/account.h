// What launches and runs cost, computed from their ledgers. Definitions: docs/cost.md.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "trainer/cost/ledger_reader.h"

namespace jevons {

// One launch. device_seconds = sum of phases + rework + unaccounted.
struct LaunchAccount {
  Launch launch;
  // Allocation: the lives of all workers; if those are not known, devices * time from the start of rank 0's
  // process to the last record.
  double device_seconds = 0;
  std::array<double, kNumPhases> phases{};  // device-seconds, those of lost steps taken out
  double rework = 0;       // device-seconds of steps that a later launch repeated or left behind; estimated
  double unaccounted = 0;  // device-seconds in no phase; negative: phases exceed the allocation
  std::optional<double> money;          // nothing: the price is unknown
  std::optional<double> energy_joules;  // nothing: not measured
  std::int64_t last_step = 0;           // means nothing without launch.start
  std::int64_t tokens = 0;              // trained by this launch and kept

  // Model FLOPs of the kept tokens, and what the devices could have done at their peak in the whole
  // allocation; nothing when the ledger does not say.
  std::optional<double> model_flops() const;
  std::optional<double> peak_flops() const;
};

// Sums over launches.
struct CostSum {
  std::int64_t launches = 0;
  std::int64_t early_launches = 0;  // ended before their launch record, from which on energy is measured
  double device_seconds = 0;
  std::map<std::string, double> device_seconds_by_type;
  std::array<double, kNumPhases> phases{};
  double rework = 0;
  double unaccounted = 0;
  std::map<std::string, double> money;  // by currency, of the launches with a price
  double unpriced_device_seconds = 0;   // of those without
  double energy_joules = 0;             // of the launches that measured it
  double unmetered_device_seconds = 0;  // of those that did not
  double model_flops = 0, peak_flops = 0;
  double unrated_device_seconds = 0;  // of launches without a known peak
  std::int64_t tokens = 0;

  void add(const LaunchAccount& account);
  // The whole cost as one amount; nothing when a part has no price or currencies are mixed.
  std::optional<double> single_amount() const;
  // Money per million trained and kept tokens, on the same condition.
  std::optional<double> money_per_mtoken() const;
  std::optional<double> tokens_per_device_hour() const;
  // Energy of all launches that reached their launch record, in joules; nothing when one was not measured.
  std::optional<double> energy() const;
  // Model FLOPs of kept tokens over the peak of all allocated device-seconds, 0 .. 1: rework, waiting and
  // idling lower it. Nothing when the peak of a part is unknown.
  std::optional<double> mfu() const;
};

struct RunAccount {
  std::string path;  // of the ledger
  std::string run;   // name by the newest launch record
  std::vector<LaunchAccount> launches;
  CostSum total;
  std::vector<std::string> problems;
};

// Rework: when a later launch of the same branch starts at step r below the last step s of this one, or the
// run has left this one's branch at r, the device-seconds between r and s are interpolated between heartbeats
// and moved from their phases (init and shutdown excepted) to rework.
RunAccount account_of(const LedgerContents& ledger);

}  // namespace jevons
