// A line on standard error that shows how far a long job is. Silent when that is not a terminal.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

namespace jevons {

// "1.50 of 3.00 GB   50.0 %   750 MB/s   2 s left", or "1.50 GB   750 MB/s" if nobody knows how much there
// is; decimal units.
std::string progress_text(std::uint64_t done, std::optional<std::uint64_t> total, double seconds);

class ProgressLine {
 public:
  explicit ProgressLine(std::optional<std::uint64_t> total_bytes);
  ~ProgressLine();  // ends the line if one was drawn
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  // Redraws at most five times a second.
  void update(std::uint64_t done_bytes);
  double seconds() const;  // since construction

 private:
  using Clock = std::chrono::steady_clock;
  std::optional<std::uint64_t> total_;
  bool terminal_, drawn_ = false;
  Clock::time_point start_ = Clock::now(), last_ = start_;
};

}  // namespace jevons
