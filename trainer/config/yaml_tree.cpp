#include "trainer/config/yaml_tree.h"

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <cstdint>
#include <sstream>
#include <utility>

namespace jevons {
namespace {

// A configuration is a page or two; this bounds what a stray file can cost.
constexpr std::size_t kMaxBytes = 1 << 20;

ConfigPlace place_at(const YamlText& input, int line, int column) {
  if (input.origin == YamlOrigin::kCommandLine) return {input.source};
  return {input.source, std::max(line, 1), std::max(column, 1)};
}

ConfigPlace place_of_offset(const YamlText& input, std::size_t offset) {
  const std::string_view before = input.text.substr(0, offset);
  const auto line = std::count(before.begin(), before.end(), '\n') + 1;
  const std::size_t line_start = before.rfind('\n') + 1;  // npos + 1 = 0
  return place_at(input, static_cast<int>(line), static_cast<int>(offset - line_start) + 1);
}

// Length of the UTF-8 sequence at `offset`; 0 if it is none (Unicode 15, table 3-7).
std::size_t utf8_length(std::string_view text, std::size_t offset) {
  const auto byte = [&](std::size_t i) -> unsigned {
    return offset + i < text.size() ? static_cast<unsigned char>(text[offset + i]) : 0u;
  };
  const auto in = [](unsigned b, unsigned low, unsigned high) { return b >= low && b <= high; };
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  if (in(first, 0xc2, 0xdf)) return in(byte(1), 0x80, 0xbf) ? 2 : 0;
  if (in(first, 0xe0, 0xef)) {
    const unsigned low = first == 0xe0 ? 0xa0 : 0x80, high = first == 0xed ? 0x9f : 0xbf;
    return in(byte(1), low, high) && in(byte(2), 0x80, 0xbf) ? 3 : 0;
  }
  if (in(first, 0xf0, 0xf4)) {
    const unsigned low = first == 0xf0 ? 0x90 : 0x80, high = first == 0xf4 ? 0x8f : 0xbf;
    return in(byte(1), low, high) && in(byte(2), 0x80, 0xbf) && in(byte(3), 0x80, 0xbf) ? 4 : 0;
  }
  return 0;
}

// What the YAML library would let pass or explain badly.
bool check_bytes(const YamlText& input, Findings& findings) {
  const std::string_view text = input.text;
  if (text.size() > kMaxBytes) {
    findings.add({input.source}, fmt::format("{} bytes are too many for a configuration", text.size()));
    return false;
  }
  bool in_indentation = true;
  for (std::size_t i = 0; i < text.size();) {
    const char c = text[i];
    const std::size_t length = utf8_length(text, i);
    const bool control = static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\r' && c != '\t';
    if (length == 0 || control) {
      findings.add(place_of_offset(input, i),
                   fmt::format("byte 0x{:02x} is not UTF-8 text", static_cast<unsigned char>(c)));
      return false;
    }
    if (c == '\t' && in_indentation && input.origin == YamlOrigin::kFile) {
      findings.add(place_of_offset(input, i), "tab in the indentation; use spaces");
      return false;
    }
    in_indentation = c == '\n' || (in_indentation && c == ' ');
    i += length;
  }
  return true;
}

// Builds the tree from the library's events. Open collections are kept on a stack and attached when they end.
class TreeBuilder : public YAML::EventHandler {
 public:
  TreeBuilder(const YamlText& input, Findings& findings) : input_(input), findings_(findings) {}

  YamlNode take_root() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++documents_ == 2) findings_.add(place(mark), "a second document starts here; a file holds one run");
  }
  void OnDocumentEnd() override {}
  void OnAnchor(const YAML::Mark& mark, const std::string&) override { no_anchors(mark); }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    no_anchors(mark);
    attach(node(YamlNode::Kind::kNull, mark));
  }
  void OnNull(const YAML::Mark& mark, YAML::anchor_t) override { attach(node(YamlNode::Kind::kNull, mark)); }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                const std::string& value) override {
    no_tags(mark, tag);
    YamlNode scalar = node(YamlNode::Kind::kScalar, mark);
    scalar.text = value;
    scalar.quoted = tag == "!";
    attach(std::move(scalar));
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {
    no_tags(mark, tag);
    open_.push_back(node(YamlNode::Kind::kList, mark));
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {
    no_tags(mark, tag);
    open_.push_back(node(YamlNode::Kind::kMap, mark));
  }
  void OnMapEnd() override { close(); }

 private:
  ConfigPlace place(const YAML::Mark& mark) const { return place_at(input_, mark.line + 1, mark.column + 1); }

  YamlNode node(YamlNode::Kind kind, const YAML::Mark& mark) const {
    YamlNode made;
    made.kind = kind;
    made.place = place(mark);
    return made;
  }

  void no_anchors(const YAML::Mark& mark) {
    findings_.add(place(mark), "anchors and aliases (& and *) are not read; write the value out");
  }

  // The library's own marks: "?" plain, "!" quoted.
  void no_tags(const YAML::Mark& mark, const std::string& tag) {
    if (!tag.empty() && tag != "?" && tag != "!") findings_.add(place(mark), "tags (!...) are not read");
  }

  void close() {
    YamlNode done = std::move(open_.back());
    open_.pop_back();
    attach(std::move(done));
  }

  void attach(YamlNode child) {
    if (open_.empty()) {
      root_ = std::move(child);
      return;
    }
    YamlNode& parent = open_.back();
    const bool is_key = parent.kind == YamlNode::Kind::kMap && parent.keys.size() == parent.items.size();
    // The library places a missing value at whatever comes next.
    if (!is_key && child.kind == YamlNode::Kind::kNull && parent.kind == YamlNode::Kind::kMap) {
      child.place = parent.keys.back().place;
    }
    (is_key ? parent.keys : parent.items).push_back(std::move(child));
  }

  const YamlText& input_;
  Findings& findings_;
  std::vector<YamlNode> open_;
  YamlNode root_;
  int documents_ = 0;
};

}  // namespace

std::string printable(std::string_view text) {
  std::size_t shown = std::min<std::size_t>(text.size(), 60);
  while (shown < text.size() && (static_cast<unsigned char>(text[shown]) & 0xc0) == 0x80) --shown;
  std::string out(text.substr(0, shown));
  std::replace_if(
      out.begin(), out.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20; }, ' ');
  return shown < text.size() ? out + "..." : out;
}

std::string YamlNode::describe() const {
  switch (kind) {
    case Kind::kNull:
      return "no value";
    case Kind::kScalar:
      return fmt::format("\"{}\"", printable(text));
    case Kind::kList:
      return "a list";
    case Kind::kMap:
      return "a map";
  }
  return "";
}

std::optional<YamlNode> parse_yaml(const YamlText& input, Findings& findings) {
  if (!check_bytes(input, findings)) return std::nullopt;
  std::istringstream stream{std::string(input.text)};
  TreeBuilder builder(input, findings);
  try {
    YAML::Parser parser(stream);
    if (!parser.HandleNextDocument(builder)) {
      findings.add({input.source}, "there is nothing in it");
      return std::nullopt;
    }
    YamlNode root = builder.take_root();
    parser.HandleNextDocument(builder);  // there must not be another
    return root;
  } catch (const YAML::Exception& e) {
    findings.add(place_at(input, e.mark.line + 1, e.mark.column + 1),
                 fmt::format("not valid YAML: {}", printable(e.msg)));
    return std::nullopt;
  }
}

}  // namespace jevons
