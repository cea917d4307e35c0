// Arguments that several commands take.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace jevons {

// A run's configuration as the command line names it.
struct ConfigArguments {
  std::string file;                    // YAML
  std::vector<std::string> overrides;  // "model.num_layers=2"
};
void add_config_arguments(CLI::App& command, ConfigArguments& config);

inline constexpr const char* kCheckpointHelp =
    "A checkpoint, or a run's directory: then the one on which it stands";

inline constexpr const char* kModelHelp =
    "A checkpoint, a run's directory (then the checkpoint on which it stands), or a Hugging Face folder";

// Numbers, not below `least`.
CLI::Validator at_least(int least);
// For files that are made: a shell leaves the ~ of --csv=~/x as it is.
CLI::Validator written_out();

}  // namespace jevons
