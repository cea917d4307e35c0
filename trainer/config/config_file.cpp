#include "trainer/config/config_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <system_error>
#include <utility>

#include "trainer/config/yaml_tree.h"
#include "trainer/config/yaml_walker.h"

namespace jevons {
namespace {

namespace fs = std::filesystem;

class RunReader {
 public:
  explicit RunReader(const std::string& source) : message_{{}, Findings(source)} {}

  void read_file(const std::string& path, const ConfigPlace& asked_at) {
    std::error_code ignored;
    const std::string identity = fs::weakly_canonical(path, ignored).string();
    if (std::find(open_.begin(), open_.end(), identity) != open_.end()) {
      findings_.add(asked_at, fmt::format("include: \"{}\" includes itself", printable(path)));
      findings_.set_incomplete();
      return;
    }
    const std::optional<std::string> text = slurp(path, asked_at);
    if (!text) return;
    open_.push_back(identity);
    read_text(*text, path);
    open_.pop_back();
  }

  void read_text(std::string_view text, const std::string& source) {
    const std::optional<YamlNode> root = parse_yaml({text, source}, findings_);
    if (!root) {
      findings_.set_incomplete();
      return;
    }
    follow_include(*root, source);
    walker_.walk_root(*root);
  }

  RunMessage finish(const std::string& source, const std::vector<std::string>& overrides) {
    for (const std::string& assignment : overrides) {
      if (assignment.starts_with("include=")) {
        findings_.add({"command line"}, "include can be given in a file only");
      } else {
        walker_.walk_override(assignment);
      }
    }
    if (findings_.complete()) walker_.require_all({source});
    message_.run.clear_include();
    return std::move(message_);
  }

 private:
  std::optional<std::string> slurp(const std::string& path, const ConfigPlace& asked_at) {
    errno = 0;
    std::ifstream file(path, std::ios::binary);
    std::ostringstream text;
    // A directory opens but does not read.
    if (!file || (file.peek() != std::ifstream::traits_type::eof() && !(text << file.rdbuf())) ||
        file.bad()) {
      const std::string what = asked_at.line == 0 ? "" : fmt::format("include: \"{}\" ", printable(path));
      findings_.add(asked_at, fmt::format("{}cannot be read: {}", what, std::strerror(errno)));
      findings_.set_incomplete();
      return std::nullopt;
    }
    return text.str();
  }

  void follow_include(const YamlNode& root, const std::string& source) {
    for (std::size_t i = 0; i < root.keys.size(); ++i) {
      const YamlNode& value = root.items[i];
      if (root.keys[i].text != "include" || value.kind != YamlNode::Kind::kScalar || value.text.empty())
        continue;
      const fs::path path = fs::path(source).parent_path() / value.text;
      return read_file(path.lexically_normal().string(), value.place);
    }
  }

  RunMessage message_;
  Findings& findings_ = message_.findings;
  YamlWalker walker_{message_.run, findings_};
  std::vector<std::string> open_;  // files being read, each included by the one before
};

}  // namespace

RunMessage read_run_file(const std::string& path, const std::vector<std::string>& overrides) {
  RunReader reader(path);
  reader.read_file(path, {path});
  return reader.finish(path, overrides);
}

RunMessage read_run_text(std::string_view text, const std::string& source,
                         const std::vector<std::string>& overrides) {
  RunReader reader(source);
  reader.read_text(text, source);
  return reader.finish(source, overrides);
}

}  // namespace jevons
