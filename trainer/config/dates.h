// Dates of configurations, always in UTC, as seconds since 1970.
#pragma once

#include <optional>
#include <string>

namespace jevons {

// "2026-05-01"; nothing for text that is not a day of the calendar.
std::optional<double> parse_day(const std::string& text);
// A day, or a day and a time: "2026-05-01T18:30".
std::optional<double> parse_moment(const std::string& text);
// The same with its time, as parse_moment reads it back; seconds of a minute are left out.
std::string format_moment(double time);

}  // namespace jevons
