// Numbers for people. Every function gives short text with a unit and never depends on the locale.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace jevons {

// "1d 02h 03m", "2h 05m", "3m 07s", "4.2 s", "1.2e+04 years"; "unknown" below 0 and for what is not finite.
std::string format_duration(double seconds);
std::string format_count(double count);           // "950", "12.3k", "4.56M", "1.20B", "3.4T"
std::string format_integer(std::int64_t value);   // "1,234,567"
std::string format_bytes(double bytes);           // "512 B", "1.5 KiB", "34.2 MiB"
std::string format_device_hours(double seconds);  // hours: "0.0042", "0.42", "1234.5"
std::string format_money(double amount,
                         const std::string& currency);  // "0.0042 USD", "0.840 USD", "12.34 USD"
std::string format_energy(double joules);               // "0.042 kWh", "1.23 kWh", "4.5 MWh"
// "2026-05-01 12:00:00 UTC"; "unknown" from the year 10000 on.
std::string format_utc(double unix_seconds);

// Lines of text whose columns line up: the first column flush left, the others flush right.
std::string format_table(const std::vector<std::vector<std::string>>& rows);

}  // namespace jevons
