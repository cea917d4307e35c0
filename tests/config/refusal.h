// What a user is told of a configuration that cannot be.
#pragma once

#include <string>
#include <vector>

#include "kernels/core/error.h"
#include "tests/config/sample.h"
#include "tests/support/catch.h"
#include "trainer/config/run_config.h"

namespace jevons::test {

// The message of a configuration that must be refused with exit code 2.
inline std::string refusal(const std::string& text, const std::vector<std::string>& overrides = {}) {
  try {
    parse_run_config(text, "run.yaml", overrides);
  } catch (const Error& e) {
    CHECK(e.code() == ExitCode::kUsage);
    return e.what();
  }
  return "accepted";
}

// Of the sample with an override.
inline std::string refusal_of(const std::string& override_) {
  return refusal(kSample, {override_});
}

}  // namespace jevons::test
