// Paths with the shell's wildcards *, ? and [...].
#pragma once

#include <string>
#include <vector>

namespace jevons {

bool is_pattern(const std::string& path);
// What a pattern matches, in the order of the bytes of the names, which no locale changes. Nothing if it
// matches nothing. Throws Error(kData) if a directory cannot be read.
std::vector<std::string> paths_matching(const std::string& pattern);

}  // namespace jevons
