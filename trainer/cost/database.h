// An SQLite database of a programme's account, for queries. It is made from the ledgers, which stay the
// truth, and never written by workers. Tables and columns: docs/cost.md.
#pragma once

#include <string>

#include "trainer/cost/programme.h"

namespace jevons {

// Writes a new database beside `path` and renames it over the one that is there, so that readers see the old
// one or the new one. Throws Error(kUsage) if what is there is no such database, or one to which somebody has
// added something; Error(kFailure) when it cannot be written. Both name the file.
void write_database(const Programme& programme, const std::string& path);

}  // namespace jevons
