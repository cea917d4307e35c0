// Files for tests: a directory that is removed again, and token files with known content. The processes of an
// MPI job share them.
#pragma once

#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <string>
#include <vector>

#include "data/token_writer.h"
#include "kernels/core/error.h"
#include "tests/support/catch.h"
#include "tests/support/ranks.h"

namespace jevons {

class TempDir {
 public:
  TempDir() {
    path_ = test::once([] {
      std::string pattern = (std::filesystem::temp_directory_path() / "jevons-test-XXXXXX").string();
      ENSURE(mkdtemp(pattern.data()) != nullptr, "no directory {}", pattern);
      return pattern;
    });
  }
  ~TempDir() {
    test::once([&] {
      std::error_code ignored;
      std::filesystem::remove_all(path_, ignored);
    });
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  std::string operator/(const std::string& name) const { return (path_ / name).string(); }
  std::size_t files() const {
    return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(path_), {}));
  }

 private:
  std::filesystem::path path_;
};

inline void write_bytes(const std::string& path, const std::string& bytes) {
  test::once([&] {
    std::ofstream out(path, std::ios::binary);
    out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    ENSURE(out.good(), "cannot write {}", path);
  });
}

inline std::string read_bytes(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  REQUIRE(in.good());
  return {std::istreambuf_iterator<char>(in), {}};
}

// A pair whose documents are these id lists.
inline void write_pair(const std::string& prefix, TokenDType dtype,
                       const std::vector<std::vector<std::int32_t>>& documents) {
  test::once([&] {
    TokenWriter writer(prefix, dtype);
    for (const auto& document : documents) {
      writer.append(document);
      writer.end_document();
    }
    writer.commit();
  });
}

// Ids begin, begin + 1, ..., end - 1: each tells its own position.
inline std::vector<std::int32_t> counting(std::int32_t begin, std::int32_t end) {
  std::vector<std::int32_t> ids;
  for (std::int32_t id = begin; id < end; ++id) ids.push_back(id);
  return ids;
}

// Calls `act`, which must throw an Error; returns its message.
template <class F>
std::string message_of(ExitCode code, F&& act) {
  try {
    act();
  } catch (const Error& error) {
    CHECK(error.code() == code);
    return error.what();
  }
  FAIL("no Error was thrown");
  return {};
}

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace jevons
