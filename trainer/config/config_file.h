// Reads a configuration into the schema's message: included files first, then the file, then the command
// line's overrides; then checks it. Throws Error(kUsage) with every mistake found.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "run.pb.h"

namespace jevons {

schema::Run read_run_file(const std::string& path, const std::vector<std::string>& overrides);
// `source` names the text in messages; its include is relative to the directory of `source`.
schema::Run read_run_text(std::string_view text, const std::string& source,
                          const std::vector<std::string>& overrides);

}  // namespace jevons
