// Where every part of the emulation puts what it finds.
#pragma once

#include <string>

namespace emulation {

// Prints the finding and keeps it for take_findings(). Past 50 findings only their number is kept.
void report(const std::string& finding);

}  // namespace emulation
