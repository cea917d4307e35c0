// jevons config show, jevons config schema.
#include <fmt/core.h>

#include "kernels/core/error.h"
#include "trainer/commands/commands.h"
#include "trainer/config/run_config.h"

namespace jevons {

int run_config_show(const ConfigShowOptions& options) {
  const Comments comments = options.help_text ? Comments::kHelp : Comments::kNone;
  fmt::print("{}", load_run_config(options.config.file, options.config.overrides).to_yaml(comments));
  return static_cast<int>(ExitCode::kOk);
}

int run_config_schema(const ConfigSchemaOptions& options) {
  fmt::print("{}", describe_schema(options.markdown ? SchemaFormat::kMarkdown : SchemaFormat::kText));
  return static_cast<int>(ExitCode::kOk);
}

}  // namespace jevons
