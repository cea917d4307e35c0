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
  double device_seconds = 0;  // allocation: devices * time from process start to the last record
  std::array<double, kNumPhases> phases{};  // device-seconds, those of lost steps taken out
  double rework = 0;                        // device-seconds of steps that a later launch repeated; estimated
  double unaccounted = 0;       // device-seconds in no phase; negative: phases exceed the allocation
  std::optional<double> money;  // nothing: the price is unknown
  std::int64_t last_step = 0;
  std::int64_t tokens = 0;  // trained by this launch and kept
};

// Sums over launches.
struct CostSum {
  std::int64_t launches = 0;
  double device_seconds = 0;
  std::map<std::string, double> device_seconds_by_type;
  std::array<double, kNumPhases> phases{};
  double rework = 0;
  double unaccounted = 0;
  std::map<std::string, double> money;  // by currency, of the launches with a price
  double unpriced_device_seconds = 0;   // of those without
  std::int64_t tokens = 0;

  void add(const LaunchAccount& account);
  // The whole cost as one amount; nothing when a part has no price or currencies are mixed.
  std::optional<double> single_amount() const;
  // Money per million trained and kept tokens, on the same condition.
  std::optional<double> money_per_mtoken() const;
};

struct RunAccount {
  std::string path;  // of the ledger
  std::string run;   // name by the newest launch record
  std::vector<LaunchAccount> launches;
  CostSum total;
  std::vector<std::string> problems;
};

// Rework: when a later launch starts at step r below the last step s of this one, the device-seconds between
// r and s are interpolated between heartbeats and moved from their phases (init and shutdown excepted) to
// rework.
RunAccount account_of(const LedgerContents& ledger);

}  // namespace jevons
