// Reads the signs of life that workers leave in <run_dir>/alive (sign_of_life.h), and books those of starts
// that are over in the ledger.
#pragma once

#include <string>
#include <vector>

#include "trainer/cost/ledger_reader.h"

namespace jevons {

std::string ledger_of(const std::string& run_dir);
std::string alive_directory(const std::string& run_dir);

// One worker's file.
struct WorkerLife {
  std::string path, worker;
  int rank = 0;
  std::string job;        // see SignOfLife::Worker
  LaunchInfo info;        // launch: empty if the worker had not joined the others yet
  double start_time = 0;  // seconds since 1970, UTC
  double elapsed = 0;     // seconds from the start of the process to half an interval after its last sign
  std::optional<Launch::Exit> exit;
};

// The workers of one start.
struct StartLives {
  std::string launch;
  std::vector<WorkerLife> workers;  // by rank
};
// Of all files of a run directory; what is wrong with one is added to `problems`.
std::vector<StartLives> read_lives(const std::string& run_dir, std::vector<std::string>& problems);

// Puts them into what the ledger says. A launch that it knows lasted as long as its workers lived, those that
// left no sign as long as the others; a start that it does not know becomes a launch, with the lives that
// were seen. Launches with an end record stay as they are.
void add_lives(const std::vector<StartLives>& starts, LedgerContents& contents);

// Under the run's lock: starts of which no process lives any more get their last records in the ledger, and
// their files go; but for the start `own_launch`, and others of its job. On file systems without locks they
// stay.
void book_lives(const std::string& run_dir, const std::string& own_launch);

}  // namespace jevons
