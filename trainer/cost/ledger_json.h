// Records of ledgers as JSON, for the files that write and read them. Members: docs/cost.md.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "trainer/cost/ledger.h"
#include "trainer/io/json.h"

namespace jevons {

inline constexpr int kLedgerVersion = 3;

// Nothing when the member is absent or null.
std::optional<double> known_number(const nlohmann::json& record, const char* name);

// A record of a start: `kind` is "launch", or "start" for what is known before MPI is initialised.
// `start_time`: seconds since 1970, UTC, of the process; `elapsed`: its age.
nlohmann::ordered_json info_json(const std::string& kind, const LaunchInfo& info, double start_time,
                                 double elapsed);
// Of either. Throws nlohmann::json::exception.
LaunchInfo launch_info(const nlohmann::json& record);

// Members of a heartbeat or exit record; `init`: device-seconds so far, all there is to say without totals.
nlohmann::ordered_json totals_json(const std::optional<Totals>& totals, double init);

// The object as a line with its seal and end of line.
std::string ledger_line(const nlohmann::ordered_json& record);

}  // namespace jevons
