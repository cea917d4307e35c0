// Reads a configuration into the schema's message: included files first, then the file, then the command
// line's overrides.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "run.pb.h"

#include "trainer/config/findings.h"

namespace jevons {

// The values that could be read, the others with their defaults; and what is wrong.
struct RunMessage {
  schema::Run run;
  Findings findings;
};

RunMessage read_run_file(const std::string& path, const std::vector<std::string>& overrides);
// `source` names the text in messages; its include is relative to the directory of `source`.
RunMessage read_run_text(std::string_view text, const std::string& source,
                         const std::vector<std::string>& overrides);

}  // namespace jevons
