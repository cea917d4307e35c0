// What the ranks of a stalled job say of themselves, and what can be concluded from it: who is missing, who
// is late, who left a collective out.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "kernels/core/whereabouts.h"

namespace jevons {

struct RankIdentity {
  int rank = 0;
  std::string host;
  int process = 0;
};

struct RankReport {
  int rank = 0;
  double idle_seconds = 0;  // since the last progress
  WorkerPlace place;
};

// "step 7, micro-batch 0, backward of layer 3".
std::string describe_position(const WorkerPlace& place);
// "step 7, micro-batch 0, backward of layer 3, phase dispatch, inside all_to_all_v 41 over ep".
std::string describe(const WorkerPlace& place);
// "; its last dispatch sent 4, 12 and received 9, 3 tokens, by rank of ep", or nothing.
std::string describe_dispatch(const WorkerPlace& place);
// A JSON object, and back. Throws Error(kData) if it is none of ours.
std::string to_json(const RankReport& report, const RankIdentity& identity, const std::string& reason);
RankReport parse_rank_report(std::string_view json);

// Several lines. `ranks`: all of the job; `reports`: of those that gave one, in any order.
std::string summarise(const std::vector<RankIdentity>& ranks, const std::vector<RankReport>& reports);

}  // namespace jevons
