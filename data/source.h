// What one entry of data.train or data.validation names: the token files of its path, and the samples in
// them. A sample lies within one file.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/token_range.h"

namespace jevons {

// The token files that `path` names: itself, or, for a pattern, the pairs and .bin files among what it
// matches or would match with .bin behind it, by name. Throws Error(kData) if it matches none.
std::vector<std::string> token_files_of(const std::string& path);

class Source {
 public:
  explicit Source(std::string path) : path_(std::move(path)) {}
  void add(TokenRange range);

  const std::string& path() const { return path_; }  // as configured
  const std::vector<TokenRange>& ranges() const { return ranges_; }
  std::int64_t tokens() const;
  std::int64_t samples() const { return ends_.empty() ? 0 : ends_.back(); }

  struct Place {
    std::size_t file;     // number of the range
    std::int64_t sample;  // in it
  };
  // sample < samples(), counted file after file. O(log files).
  Place place_of(std::int64_t sample) const;

 private:
  std::string path_;
  std::vector<TokenRange> ranges_;
  std::vector<std::int64_t> ends_;  // samples of this range and those before
};

}  // namespace jevons
