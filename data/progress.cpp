#include "data/progress.h"

#include <fmt/core.h>
#include <unistd.h>

#include <cstdio>

namespace jevons {
namespace {

struct Unit {
  double bytes;
  const char* name;
};

Unit unit_for(double bytes) {
  for (const Unit unit : {Unit{1e12, "TB"}, Unit{1e9, "GB"}, Unit{1e6, "MB"}, Unit{1e3, "kB"}})
    if (bytes >= unit.bytes) return unit;
  return {1, "B"};
}

std::string duration_text(double seconds) {
  constexpr double kMost = 3.6e9;  // a million hours
  if (!(seconds < kMost)) return "very long";
  const auto s = static_cast<std::int64_t>(seconds + 0.5);
  if (s < 100) return fmt::format("{} s", s);
  if (s < 100 * 60) return fmt::format("{} min {:02} s", s / 60, s % 60);
  return fmt::format("{} h {:02} min", s / 3600, s % 3600 / 60);
}

}  // namespace

std::string progress_text(std::uint64_t done, std::optional<std::uint64_t> total, double seconds) {
  const auto bytes = static_cast<double>(done), all = static_cast<double>(total.value_or(done));
  const Unit unit = unit_for(all);
  std::string text = fmt::format("{:.2f}", bytes / unit.bytes);
  if (total) text += fmt::format(" of {:.2f}", all / unit.bytes);
  text += fmt::format(" {}", unit.name);
  if (total) text += fmt::format("   {:5.1f} %", *total == 0 ? 100.0 : 100 * bytes / all);
  if (seconds <= 0 || done == 0) return text;
  const double rate = bytes / seconds;
  text += fmt::format("   {:.0f} MB/s", rate / 1e6);
  return total ? text + fmt::format("   {} left", duration_text((all - bytes) / rate)) : text;
}

ProgressLine::ProgressLine(std::optional<std::uint64_t> total_bytes)
    : total_(total_bytes), terminal_(isatty(STDERR_FILENO) == 1) {}

ProgressLine::~ProgressLine() {
  if (drawn_) std::fputs("\n", stderr);
}

double ProgressLine::seconds() const {
  return std::chrono::duration<double>(Clock::now() - start_).count();
}

void ProgressLine::update(std::uint64_t done_bytes) {
  if (!terminal_) return;
  const auto now = Clock::now();
  if (done_bytes != total_ && now - last_ < std::chrono::milliseconds(200)) return;
  last_ = now;
  drawn_ = true;
  fmt::print(stderr, "\r{}\033[K", progress_text(done_bytes, total_, seconds()));
  std::fflush(stderr);
}

}  // namespace jevons
