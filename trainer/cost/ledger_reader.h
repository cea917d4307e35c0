// Reads a ledger as it is on disk: after kills, with torn or damaged lines, written by several launches. What
// cannot be used is reported, never guessed and never dropped in silence.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "trainer/cost/ledger.h"

namespace jevons {

struct Heartbeat {
  double time = 0;        // seconds since 1970, UTC, by the wall clock
  double elapsed = 0;     // seconds since the launch's process started, by the steady clock
  Totals totals;          // before the first step: step and tokens of Launch::start, 0 without
  bool starting = false;  // no step had begun
};

struct Launch {
  std::string id;
  bool has_record = false;  // false: its launch record was lost, info is empty
  LaunchInfo info;
  double start_time = 0;  // seconds since 1970, UTC
  struct Start {
    std::int64_t step = 0;    // finished steps: 0, or those of the checkpoint resumed from
    std::int64_t tokens = 0;  // trained until then
  };
  std::optional<Start> start;  // nothing: it ended before its first step could begin
  std::vector<Heartbeat>
      beats;  // by elapsed; first the launch record itself (all init), last the exit record
  struct Exit {
    std::string reason;
    int code = 0;
  };
  std::optional<Exit> exit;  // nothing: killed, or still running
};

struct LedgerContents {
  std::string path;
  std::vector<Launch> launches;       // in the order of their first record
  std::vector<std::string> problems;  // "line 12: ...", for people
};

// Throws Error(kData) only if the file cannot be read at all.
LedgerContents read_ledger(const std::string& path);

}  // namespace jevons
