// The directory of a run's checkpoints: step-00000100/, step-00000200/, ...
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

namespace jevons {

// Whether the directory has a manifest: only then it is a checkpoint.
bool is_committed(const std::filesystem::path& directory);

// Every step's directory in `dir`, committed or not; empty if there is no such directory.
std::map<std::int64_t, std::filesystem::path> steps_in(const std::string& dir);

}  // namespace jevons
