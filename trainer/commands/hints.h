// What people mean by arguments that no command takes.
#pragma once

#include <string>
#include <vector>

namespace jevons {

struct CommandFacts {
  std::vector<std::string> subcommands;
  bool takes_options = false;  // of the configuration, as KEY=VALUE
};

// A line of text for the command that was understood last; empty without a guess.
std::string hint_about(const std::string& argument, const CommandFacts& command);

}  // namespace jevons
