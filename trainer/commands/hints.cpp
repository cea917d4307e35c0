#include "trainer/commands/hints.h"

#include <fmt/core.h>

#include "trainer/config/option.h"

namespace jevons {

std::string hint_about(const std::string& argument, const CommandFacts& command) {
  if (!argument.starts_with("--")) {
    const auto guess = nearest(argument, command.subcommands);
    return guess ? fmt::format("Did you mean \"{}\"?\n", *guess) : "";
  }
  if (!command.takes_options || argument.find_first_of(".=") == std::string::npos) return "";
  const std::string key = argument.substr(2);
  return fmt::format("Options of the configuration are written without dashes: {}\n",
                     key.find('=') == std::string::npos ? key + "=VALUE" : key);
}

}  // namespace jevons
