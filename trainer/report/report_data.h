// What a report shows of a run, as JSON for the page's script: facts, curves by step, account by time, load
// of experts. Keys: see the script in report.html.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace jevons {

// From ledger.jsonl and metrics.jsonl of a run directory. Curves are thinned to what a screen can show; the
// lowest and the highest loss of every stretch stay. Throws Error(kUsage) when there is no ledger; lines that
// cannot be read become notes.
nlohmann::ordered_json report_data(const std::string& run_dir);

}  // namespace jevons
