// The directory that a run writes into: made if there is none, refused if its files are somebody else's.
#pragma once

#include <string>

namespace jevons {

// Throws Error(kUsage) naming the file if `run_dir` has one that the run would write over and that no run has
// made: config.yaml, passport.json or metrics.jsonl without a ledger, or a ledger or lock that is none.
// Touches nothing.
void check_run_directory(const std::string& run_dir);

}  // namespace jevons
