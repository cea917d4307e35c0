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
  bool early = false;  // it ended before its launch record: info is what was known before MPI was initialised
  LaunchInfo info;
  double start_time = 0;  // seconds since 1970, UTC
  struct Start {
    std::int64_t step = 0;    // finished steps: 0, or those of the checkpoint resumed from
    std::int64_t tokens = 0;  // trained until then
    Lineage lineage = {};     // of its steps
  };
  std::optional<Start> start;  // nothing: it ended before its first step could begin
  std::vector<Heartbeat>
      beats;  // by elapsed; first the launch record itself (all init), last the exit record, then the end
  struct Exit {
    std::string reason;
    int code = 0;
  };
  std::optional<Exit> exit;      // nothing: killed, or still running
  std::optional<LaunchEnd> end;  // by its end record or its workers' signs of life; nothing: neither is known
};

struct LedgerContents {
  std::string path;
  std::vector<Launch> launches;       // in the order of their first record
  std::vector<std::string> problems;  // "line 12: ...", for people
};

// With the signs of life beside it (lives.h). Throws Error(kData) only if the file cannot be read at all.
LedgerContents read_ledger(const std::string& path);
// Without them, as the records stand.
LedgerContents read_ledger_records(const std::string& path);

}  // namespace jevons
