// jevons config show, jevons config schema.
#include <fmt/core.h>

#include "kernels/core/error.h"
#include "trainer/commands/arguments.h"
#include "trainer/commands/commands.h"
#include "trainer/config/run_config.h"

namespace jevons {
namespace {

struct ConfigShowOptions {
  ConfigArguments config;
  bool help_text = false;  // comments with help, unit and range of every option
};

struct ConfigSchemaOptions {
  bool markdown = false;
};

int run_config_show(const ConfigShowOptions& options) {
  const Comments comments = options.help_text ? Comments::kHelp : Comments::kNone;
  fmt::print("{}", load_run_config(options.config.file, options.config.overrides).to_yaml(comments));
  return static_cast<int>(ExitCode::kOk);
}

int run_config_schema(const ConfigSchemaOptions& options) {
  fmt::print("{}", describe_schema(options.markdown ? SchemaFormat::kMarkdown : SchemaFormat::kText));
  return static_cast<int>(ExitCode::kOk);
}

}  // namespace

void add_config(CLI::App& app, ChosenCommand& chosen) {
  CLI::App* config = app.add_subcommand("config", "Configurations: show one, list every option");
  CLI::App* show =
      config->add_subcommand("show", "Check a configuration and print it with every default filled in");
  auto options = std::make_shared<ConfigShowOptions>();
  add_config_arguments(*show, options->config);
  show->add_flag("--help-text", options->help_text, "Explain every option in a comment above it");
  show->callback([options, &chosen] { chosen.run = [options](Job&) { return run_config_show(*options); }; });

  CLI::App* schema = config->add_subcommand("schema", "Every option: type, unit, range, default, meaning");
  auto schema_options = std::make_shared<ConfigSchemaOptions>();
  schema->add_flag("--markdown", schema_options->markdown, "As a Markdown table");
  schema->callback([schema_options, &chosen] {
    chosen.run = [schema_options](Job&) { return run_config_schema(*schema_options); };
  });
}

}  // namespace jevons
