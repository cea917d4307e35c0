// Any bytes are a configuration or a usage error, never a crash. A configuration that is accepted survives
// being checked against a world. The first line may hold overrides, separated by blanks, behind "#!".
#include <cstddef>
#include <cstdint>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/core/error.h"
#include "trainer/config/run_config.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  std::vector<std::string> overrides;
  if (text.starts_with("#!")) {
    std::istringstream line(
        text.substr(2, text.find('\n') == std::string::npos ? std::string::npos : text.find('\n') - 2));
    for (std::string word; line >> word;) overrides.push_back(word);
  }
  try {
    jevons::RunConfig config = jevons::parse_run_config(text, "fuzz.yaml", overrides);
    jevons::validate_for_world(config, 4);
  } catch (const jevons::Error& e) {
    if (e.code() != jevons::ExitCode::kUsage) throw;
  }
  return 0;
}
