// Ledgers made by hand, with round numbers.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "trainer/cost/ledger.h"

namespace jevons::test {

// Lines of a ledger; every call appends one sealed record.
struct HandMadeLedger {
  std::string text;

  struct Start {
    std::string id = "L1";
    double time = 1000;  // wall clock at process start
    std::int64_t devices = 2;
    std::optional<double> price = 3.6;  // per device-hour: 0.001 per device-second
    std::int64_t step = 0;
    std::string purpose = "exploration";
    std::string currency = "USD";
    std::string project = "p";
    std::string type = "cpu";
    double flops_per_token = 0, peak_tflops = 0;  // 0: unknown
    std::int64_t total_steps = 0;
    bool begins = true;  // as ledgers of version 1 say it; else the first heartbeat with a step does
  };
  // Elapsed at the record: 0 seconds. 100 tokens a step.
  HandMadeLedger& launch(const Start& start);
  // `compute`: device-seconds of the compute phase; everything else is init.
  struct Beat {
    std::string id = "L1";
    double time = 0, elapsed = 0;
    std::int64_t step = 0;
    double compute = 0, init = 0;
    std::optional<double> joules = {};
    std::vector<Branch> branches = {};
  };
  HandMadeLedger& heartbeat(const Beat& beat);
  // A heartbeat before the first step; `step` means nothing.
  HandMadeLedger& starting(const Beat& beat);
  HandMadeLedger& exit(const Beat& beat, const std::string& reason, int code);
  HandMadeLedger& raw(const std::string& line);
};

}  // namespace jevons::test
