// All launches of a programme as one flat table with a column per figure: what the CSV file and the database
// hold. Columns and units: docs/cost.md.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "trainer/cost/programme.h"

namespace jevons {

using Cell = std::variant<std::monostate, std::int64_t, double, std::string>;  // monostate: unknown

struct Column {
  enum class Type : std::uint8_t { kInteger, kReal, kText };
  std::string name;
  Type type;
};

struct LaunchTable {
  std::vector<Column> columns;
  std::vector<std::vector<Cell>> rows;  // one per launch, as many cells as columns
};

LaunchTable launch_table(const Programme& programme);

// RFC 4180: a header line, CRLF line ends, quotes where needed; an empty field is unknown. Numbers have all
// their digits.
std::string to_csv(const LaunchTable& table);
// The programme's launches to a file, over such a file only. Throws Error(kUsage) if something else is there.
void write_csv(const Programme& programme, const std::string& path);

}  // namespace jevons
