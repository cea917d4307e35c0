// One self-contained HTML page about one or several runs: no network, readable on a phone and in the dark.
#pragma once

#include <string>
#include <vector>

namespace jevons {

// Curves of several runs lie over each other. Throws Error(kUsage) naming a directory that holds no run.
std::string html_report(const std::vector<std::string>& run_dirs);
// The same to a file, over such a page only. Throws Error(kUsage) if something else is there.
void write_html_report(const std::vector<std::string>& run_dirs, const std::string& path);

}  // namespace jevons
