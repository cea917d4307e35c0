// Walks a YAML tree along a protobuf message by reflection: every key must be a field, every value of its
// type and range. Mistakes are gathered in Findings; the message keeps its old value where a new one was
// wrong.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "trainer/config/findings.h"
#include "trainer/config/yaml_tree.h"

namespace google::protobuf {
class FieldDescriptor;
class Message;
}  // namespace google::protobuf

namespace jevons {

class YamlWalker {
 public:
  // `whole` is the message of a whole configuration: its keys are what suggestions are drawn from.
  YamlWalker(google::protobuf::Message& whole, Findings& findings) : whole_(whole), findings_(findings) {}

  // A file's root. Values are put over those the message has; a list replaces a list.
  void walk_root(const YamlNode& root);
  // "model.moe.top_k=2", "data.train.0.path=x", "data.train.0={path: x}": elements of lists are counted from
  // 0, one past the end is appended.
  void walk_override(std::string_view assignment);
  // One finding for every required option that has no value; `source` names the configuration.
  void require_all(const ConfigPlace& source);

 private:
  using Message = google::protobuf::Message;
  using Field = google::protobuf::FieldDescriptor;

  void walk_section(const YamlNode& node, Message& section, const std::string& prefix);
  void walk_value(const YamlNode& node, Message& section, const Field& field, const std::string& key);
  void walk_list(const YamlNode& node, Message& section, const Field& field, const std::string& key);
  // Whether the node can be walked as one; else reports it.
  bool is_section_of(const YamlNode& node, const std::string& key);
  struct Target {
    Message* section;
    const Field* field;
    std::string key;
  };
  // The option that older files have under `key`.
  std::optional<Target> formerly(const std::string& key);
  // Its value, if there is one.
  bool walk_former(const YamlNode& node, const ConfigPlace& place, const std::string& key);
  // Whether one file gives `key` under its former name too; reports it.
  bool given_twice(const std::string& key, const ConfigPlace& place);
  void set_scalar(const YamlNode& node, Message& section, const Field& field, const std::string& key);
  std::string store(const YamlNode& node, Message& section, const Field& field);
  void override_in(Message& section, const std::string& prefix, std::string_view path,
                   std::string_view value);
  void override_value(Message& section, const Field& field, const std::string& key, std::string_view value);
  void override_element(Message& element, const std::string& key, std::string_view value);
  // Of the text after "key="; nothing if it is no YAML, which is reported.
  std::optional<YamlNode> node_of(std::string_view value);
  void require_in(const Message& section, const std::string& prefix, const ConfigPlace& source);
  Message* element(Message& section, const Field& field, std::string_view index, const std::string& key);
  void unknown_key(const ConfigPlace& place, const Message& section, const std::string& prefix,
                   std::string_view name);
  // "train.steps: 5" in a file, where sections are nested.
  void dotted_key(const ConfigPlace& place, const std::string& prefix, const std::string& name);

  Message& whole_;
  Findings& findings_;
  std::map<std::string, ConfigPlace> former_names_;  // where options were given under these
};

}  // namespace jevons
