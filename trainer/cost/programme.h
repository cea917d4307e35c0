// The whole programme: all runs of one or several directories, by project and purpose, with the final runs
// beside the sum.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "trainer/cost/account.h"

namespace jevons {

// cost.purpose of the runs whose weights are kept.
inline constexpr const char* kFinalPurpose = "final";

struct Programme {
  std::vector<RunAccount> runs;                                       // by path
  std::map<std::pair<std::string, std::string>, CostSum> by_purpose;  // (project, purpose)
  std::map<std::string, CostSum> by_project;
  CostSum total;
  std::vector<std::string> problems;  // of the collection; each run has its own too
  std::vector<std::string> unusable;  // ledgers without a launch that could be counted, "path: why"
  std::set<std::string> projects;     // of every launch that was read, counted or not

  // Device-seconds of a project over those of its final runs; nothing when it has none.
  std::optional<double> ratio_to_final(const std::string& project) const;
};

// Every ledger.jsonl at or below `path`, sorted; none if it does not exist.
std::vector<std::string> ledgers_below(const std::string& path);
// Every ledger.jsonl that a path names or holds, searched through directories, each file once, sorted.
// Throws Error(kUsage) for a path that has none.
std::vector<std::string> find_ledgers(const std::vector<std::string>& paths);

// The ledgers that were read, for what must not write over them.
std::vector<std::string> ledgers_of(const Programme& programme);

// Reads and sums. A launch that stands in several ledgers (a copied run directory) counts once and is
// reported. `project`: only launches of this cost.project; empty: all.
Programme account_programme(const std::vector<std::string>& ledgers, const std::string& project);
// Throws if nothing was counted: Error(kUsage) if `project` is none of those that were read, Error(kData) if
// no launch could be read.
void require_launches(const Programme& programme, const std::string& project);

}  // namespace jevons
