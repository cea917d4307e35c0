// The part of YAML that configurations use, as a tree that remembers places: maps with plain keys, lists,
// scalars as text. Everything that lets one text mean two things is a mistake: anchors, aliases, tags, merge
// keys, second documents.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "trainer/config/findings.h"

namespace jevons {

struct YamlNode {
  enum class Kind { kNull, kScalar, kList, kMap };
  Kind kind = Kind::kNull;
  ConfigPlace place;
  std::string text;              // kScalar, as written but for quotes and escapes
  bool quoted = false;           // kScalar in quotes, or a block scalar
  std::vector<YamlNode> keys;    // kMap, as many as items; not checked for repetition
  std::vector<YamlNode> items;   // kList and kMap
  std::string describe() const;  // `a list`, `"text"`: what a message says it found
};

// Where text comes from decides what its places look like.
enum class YamlOrigin { kFile, kCommandLine };
struct YamlText {
  std::string_view text;
  std::string source;
  YamlOrigin origin = YamlOrigin::kFile;
};

// Nothing when there is no document to walk; findings then say why.
std::optional<YamlNode> parse_yaml(const YamlText& input, Findings& findings);

// For messages: control characters replaced, at most 60 bytes.
std::string printable(std::string_view text);

}  // namespace jevons
