// Runs the built program as a user does and keeps what it said.
#pragma once

#include <fmt/core.h>
#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <string>

#include "tests/support/catch.h"

namespace jevons::test {

struct Ran {
  int code = -1;
  std::string output;  // standard output and error together
};

// A shell command; 124 if it ran longer than `limit_seconds`.
inline Ran shell(const std::string& command, int limit_seconds = 120) {
  const std::string guarded = fmt::format("timeout -k 5 {} sh -c '{}' 2>&1", limit_seconds, command);
  FILE* pipe = popen(guarded.c_str(), "r");
  REQUIRE(pipe != nullptr);
  Ran ran;
  std::array<char, 4096> chunk;
  while (const std::size_t n = std::fread(chunk.data(), 1, chunk.size(), pipe)) {
    ran.output.append(chunk.data(), n);
  }
  const int status = pclose(pipe);
  ran.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128;
  return ran;
}

inline Ran jevons(const std::string& arguments) {
  return shell(JEVONS_PROGRAM " " + arguments);
}
// A shell command that starts `command` as a job of so many workers, whoever runs it on however many cores.
inline std::string job_of(int workers, const std::string& command) {
  return fmt::format("{}/scripts/mpi_env mpirun -n {} {}", JEVONS_SOURCE_DIR, workers, command);
}
inline Ran mpirun(int workers, const std::string& arguments) {
  return shell(job_of(workers, JEVONS_PROGRAM " " + arguments));
}

}  // namespace jevons::test
