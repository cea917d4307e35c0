// One self-contained HTML page about one or several runs: no network, readable on a phone and in the dark.
#pragma once

#include <string>
#include <vector>

namespace jevons {

// Curves of several runs lie over each other. Throws Error(kUsage) naming a directory that holds no run.
std::string html_report(const std::vector<std::string>& run_dirs);

}  // namespace jevons
