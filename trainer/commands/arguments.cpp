#include "trainer/commands/arguments.h"

#include <fmt/core.h>

#include <cmath>

#include "trainer/config/paths.h"

namespace jevons {

void add_config_arguments(CLI::App& command, ConfigArguments& config) {
  command.add_option("file", config.file, "Configuration (YAML)")->required()->type_name("FILE");
  command
      .add_option("overrides", config.overrides, "Options that win over the file's, as model.num_layers=2")
      ->type_name("KEY=VALUE");
}

CLI::Validator at_least(int least) {
  const auto problem = [least](const std::string& text) {
    double value = 0;
    const bool good = CLI::detail::lexical_cast(text, value) && std::isfinite(value) && value >= least;
    return good ? std::string() : fmt::format("{} is not a number of at least {}", text, least);
  };
  return {problem, fmt::format(">={}", least)};
}

CLI::Validator written_out() {
  return {[](const std::string& path) { return unexpanded_in(path); }, ""};
}

}  // namespace jevons
