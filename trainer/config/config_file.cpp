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

#include "trainer/config/validate.h"
#include "trainer/config/yaml_tree.h"
#include "trainer/config/yaml_walker.h"

namespace jevons {
namespace {

namespace fs = std::filesystem;

class RunReader {
 public:
  void read_file(const std::string& path, const Place& asked_at) {
    std::error_code ignored;
    const std::string identity = fs::weakly_canonical(path, ignored).string();
    if (std::find(open_.begin(), open_.end(), identity) != open_.end()) {
      findings_.add(asked_at, fmt::format("include: \"{}\" includes itself", printable(path)));
      is_whole_ = false;
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
      is_whole_ = false;
      return;
    }
    follow_include(*root, source);
    walker_.walk_root(*root);
  }

  schema::Run finish(const std::string& source, const std::vector<std::string>& overrides) {
    for (const std::string& assignment : overrides) {
      if (assignment.starts_with("include=")) {
        findings_.add({"command line"}, "include can be given in a file only");
      } else {
        walker_.walk_override(assignment);
      }
    }
    if (is_whole_) walker_.require_all({source});
    findings_.throw_if_any();
    resolve_defaults(run_, source);
    check_options_together(run_, {source}, findings_);
    findings_.throw_if_any();
    return run_;
  }

 private:
  std::optional<std::string> slurp(const std::string& path, const Place& asked_at) {
    errno = 0;
    std::ifstream file(path, std::ios::binary);
    std::ostringstream text;
    // A directory opens but does not read.
    if (!file || (file.peek() != std::ifstream::traits_type::eof() && !(text << file.rdbuf())) ||
        file.bad()) {
      const std::string what = asked_at.line == 0 ? "" : fmt::format("include: \"{}\" ", printable(path));
      findings_.add(asked_at, fmt::format("{}cannot be read: {}", what, std::strerror(errno)));
      is_whole_ = false;
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

  schema::Run run_;
  Findings findings_;
  YamlWalker walker_{run_, findings_};
  std::vector<std::string> open_;  // files being read, each included by the one before
  bool is_whole_ = true;           // every file could be read to its end, so what is missing is missing
};

}  // namespace

schema::Run read_run_file(const std::string& path, const std::vector<std::string>& overrides) {
  RunReader reader;
  reader.read_file(path, {path});
  return reader.finish(path, overrides);
}

schema::Run read_run_text(std::string_view text, const std::string& source,
                          const std::vector<std::string>& overrides) {
  RunReader reader;
  reader.read_text(text, source);
  return reader.finish(source, overrides);
}

}  // namespace jevons
