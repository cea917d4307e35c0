// A directory of this test, removed at its end, and whole files in one call. The processes of an MPI job
// share the directory.
#pragma once

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "kernels/core/error.h"
#include "tests/support/ranks.h"

namespace jevons::test {

class Scratch {
 public:
  Scratch() {
    path_ = once([] {
      std::string pattern = (std::filesystem::temp_directory_path() / "jevons-state-XXXXXX").string();
      ENSURE(::mkdtemp(pattern.data()) != nullptr, "no temporary directory");
      return pattern;
    });
  }
  ~Scratch() {
    once([&] {
      std::error_code ignored;
      std::filesystem::remove_all(path_, ignored);
    });
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  std::string path(const std::string& name = "") const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

inline std::string contents_of(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

inline void write_contents(const std::filesystem::path& path, const std::string& text) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out << text;
}

// The message of the Error that `f` throws, or "" if it does not throw; `code` receives its exit code.
template <class F>
std::string error_of(F f, ExitCode* code = nullptr) {
  try {
    f();
  } catch (const Error& e) {
    if (code != nullptr) *code = e.code();
    return e.what();
  }
  return {};
}

}  // namespace jevons::test
