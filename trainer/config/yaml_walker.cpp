#include "trainer/config/yaml_walker.h"

#include <fmt/format.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <algorithm>
#include <limits>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "trainer/config/option.h"
#include "trainer/config/paths.h"
#include "trainer/config/scalars.h"

namespace jevons {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

const ConfigPlace kCommandLine = {"command line"};

// A number may also be a word: says so where no number was found.
template <class T>
Parsed<T> or_word(Parsed<T> parsed, const FieldDescriptor& field) {
  for (const std::string_view number_only : {"expected a whole number", "expected a finite number"}) {
    if (word_for(field).empty() || !parsed.problem.starts_with(number_only)) continue;
    parsed.problem.replace(0, number_only.size(), "expected a " + type_of(field));
  }
  return parsed;
}

// Bool, numbers, text: reads, checks the range, stores. Returns what is wrong, or nothing.
template <class T, class Store>
std::string store_if_good(const Parsed<T>& parsed, const FieldDescriptor& field, const Store& store) {
  if (!parsed.problem.empty()) return parsed.problem;
  if (!in_range(field, static_cast<double>(parsed.value))) {
    return fmt::format("{} is out of range; must be {}", parsed.value, range_of(field));
  }
  store(parsed.value);
  return "";
}

std::string store_choice(const std::string& text, Message& section, const FieldDescriptor& field) {
  const std::vector<std::string> names = choices_of(field);
  const auto it = std::find(names.begin(), names.end(), text);
  if (it != names.end()) {
    const int index = static_cast<int>(it - names.begin());
    section.GetReflection()->SetEnum(&section, &field, field.enum_type()->value(index));
    return "";
  }
  const std::optional<std::string> guess = nearest(text, names);
  return fmt::format("expected {}, found \"{}\"{}", type_of(field), printable(text),
                     guess ? fmt::format("; did you mean \"{}\"?", *guess) : "");
}

// "a whole number", "one of f32, bf16".
std::string wanted(const FieldDescriptor& field) {
  const std::string type = type_of(field);
  return type.find("number") != std::string::npos ? "a " + type : type;
}

std::pair<std::string_view, std::string_view> cut(std::string_view text, char at) {
  const std::size_t end = text.find(at);
  if (end == std::string_view::npos) return {text, {}};
  return {text.substr(0, end), text.substr(end + 1)};
}

}  // namespace

void YamlWalker::walk_root(const YamlNode& root) {
  if (root.kind != YamlNode::Kind::kMap) {
    findings_.add(root.place,
                  fmt::format("expected options (key: value) at the top, found {}", root.describe()));
    return;
  }
  walk_section(root, whole_, "");
}

void YamlWalker::walk_section(const YamlNode& node, Message& section, const std::string& prefix) {
  std::map<std::string, ConfigPlace> seen;
  for (std::size_t i = 0; i < node.items.size(); ++i) {
    const YamlNode& name = node.keys[i];
    if (name.kind != YamlNode::Kind::kScalar) {
      findings_.add(name.place, fmt::format("{}expected a key, found {}", prefix.empty() ? "" : prefix + ": ",
                                            name.describe()));
      continue;
    }
    if (name.text == "<<") {
      findings_.add(name.place, "merge keys (<<) are not read; use include");
      continue;
    }
    const std::string key = prefix + name.text;
    if (const auto [first, is_new] = seen.emplace(name.text, name.place); !is_new) {
      findings_.add(name.place, fmt::format("duplicate key \"{}\"; first given in line {}", printable(key),
                                            first->second.line));
      continue;
    }
    const FieldDescriptor* field = section.GetDescriptor()->FindFieldByName(name.text);
    if (field == nullptr && walk_former(node.items[i], name.place, key)) continue;
    if (field == nullptr && name.text.find('.') != std::string::npos) {
      dotted_key(name.place, prefix, name.text);
    } else if (field == nullptr) {
      unknown_key(name.place, section, prefix, name.text);
    } else {
      walk_value(node.items[i], section, *field, key);
    }
  }
}

void YamlWalker::walk_value(const YamlNode& node, Message& section, const FieldDescriptor& field,
                            const std::string& key) {
  if (given_twice(key, node.place)) return;
  findings_.given(key, node.place);
  if (field.is_repeated()) return walk_list(node, section, field, key);
  if (!is_section(field)) return set_scalar(node, section, field, key);
  if (node.kind == YamlNode::Kind::kNull) return;  // a section whose options are all commented out
  if (!is_section_of(node, key)) return;
  walk_section(node, *section.GetReflection()->MutableMessage(&section, &field), key + ".");
}

std::optional<YamlWalker::Target> YamlWalker::formerly(const std::string& key) {
  for (const NamedOption& option : all_options(*whole_.GetDescriptor())) {
    if (former_key_of(*option.field) != key) continue;
    Message* section = &whole_;
    for (std::string_view rest = option.key; rest.find('.') != std::string_view::npos;) {
      const auto [name, inner] = cut(rest, '.');
      const FieldDescriptor* field = section->GetDescriptor()->FindFieldByName(std::string(name));
      section = section->GetReflection()->MutableMessage(section, field);
      rest = inner;
    }
    return Target{section, option.field, option.key};
  }
  return std::nullopt;
}

bool YamlWalker::walk_former(const YamlNode& node, const ConfigPlace& place, const std::string& key) {
  const std::optional<Target> meant = formerly(key);
  if (!meant) return false;
  former_names_[meant->key] = place;
  if (!given_twice(meant->key, place)) walk_value(node, *meant->section, *meant->field, meant->key);
  return true;
}

bool YamlWalker::given_twice(const std::string& key, const ConfigPlace& place) {
  const auto former = former_names_.find(key);
  if (former == former_names_.end() || place.line == 0) return false;
  const bool again = findings_.was_given(key) && findings_.place_of(key).source == place.source &&
                     former->second.source == place.source;
  if (again) {
    findings_.add_for(
        key, place,
        fmt::format("{} is given under two names; first in line {}", key, findings_.place_of(key).line));
  }
  return again;
}

void YamlWalker::walk_list(const YamlNode& node, Message& section, const FieldDescriptor& field,
                           const std::string& key) {
  if (node.kind != YamlNode::Kind::kList) {
    findings_.add_for(key, node.place, fmt::format("{}: expected a list, found {}", key, node.describe()));
    return;
  }
  const Reflection* reflection = section.GetReflection();
  reflection->ClearField(&section, &field);
  findings_.forget_inside(key);
  for (std::size_t i = 0; i < node.items.size(); ++i) {
    const YamlNode& item = node.items[i];
    const std::string item_key = fmt::format("{}.{}", key, i);
    if (is_section_of(item, item_key)) {
      findings_.given(item_key, item.place);
      walk_section(item, *reflection->AddMessage(&section, &field), item_key + ".");
    }
  }
}

bool YamlWalker::is_section_of(const YamlNode& node, const std::string& key) {
  if (node.kind == YamlNode::Kind::kMap) return true;
  findings_.add_for(key, node.place,
                    fmt::format("{}: expected a section of options, found {}", key, node.describe()));
  return false;
}

void YamlWalker::set_scalar(const YamlNode& node, Message& section, const FieldDescriptor& field,
                            const std::string& key) {
  std::string problem;
  if (node.kind == YamlNode::Kind::kNull) {
    problem = fmt::format("has no value; expected {}", wanted(field));
  } else if (node.kind != YamlNode::Kind::kScalar) {
    problem = fmt::format("expected {}, found {}", wanted(field), node.describe());
  } else {
    problem = store(node, section, field);
  }
  if (!problem.empty()) findings_.add_for(key, node.place, fmt::format("{}: {}", key, problem));
}

std::string YamlWalker::store(const YamlNode& node, Message& section, const FieldDescriptor& field) {
  const Reflection* set = section.GetReflection();
  const std::string& text = node.text;
  if (field.cpp_type() == FieldDescriptor::CPPTYPE_STRING) {
    set->SetString(&section, &field, text);
    return is_path(field) ? unexpanded_in(text) : "";
  }
  if (field.cpp_type() == FieldDescriptor::CPPTYPE_ENUM) return store_choice(text, section, field);
  if (node.quoted) {
    return fmt::format("expected {}, found text in quotes; write {} without them", wanted(field),
                       printable(text));
  }
  if (!word_for(field).empty() && text == word_for(field)) {
    if (field.cpp_type() == FieldDescriptor::CPPTYPE_DOUBLE) {
      set->SetDouble(&section, &field, kWordValue);
    } else {
      set->SetInt64(&section, &field, kWordValue);
    }
    return "";
  }
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_BOOL:
      return store_if_good(parse_boolean(text), field, [&](bool v) { set->SetBool(&section, &field, v); });
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return store_if_good(or_word(parse_number(text), field), field,
                           [&](double v) { set->SetDouble(&section, &field, v); });
    case FieldDescriptor::CPPTYPE_UINT64:
      return store_if_good(parse_unsigned(text), field,
                           [&](std::uint64_t v) { set->SetUInt64(&section, &field, v); });
    case FieldDescriptor::CPPTYPE_INT64:
      return store_if_good(or_word(parse_signed(text), field), field,
                           [&](std::int64_t v) { set->SetInt64(&section, &field, v); });
    default:
      break;  // int32
  }
  Parsed<std::int64_t> parsed = parse_signed(text);
  if (parsed.problem.empty() && !std::in_range<std::int32_t>(parsed.value)) {
    parsed.problem = fmt::format("{} does not fit into 32 bits", parsed.value);
  }
  return store_if_good(
      parsed, field, [&](std::int64_t v) { set->SetInt32(&section, &field, static_cast<std::int32_t>(v)); });
}

void YamlWalker::walk_override(std::string_view assignment) {
  const auto [key, value] = cut(assignment, '=');
  if (key.empty() || key.size() == assignment.size()) {
    findings_.add(kCommandLine, fmt::format("\"{}\": expected key=value", printable(assignment)));
    return;
  }
  override_in(whole_, "", key, value);
}

void YamlWalker::override_in(Message& section, const std::string& prefix, std::string_view path,
                             std::string_view value) {
  const auto [name, inner] = cut(path, '.');
  const FieldDescriptor* field = section.GetDescriptor()->FindFieldByName(std::string(name));
  const bool is_last = name.size() == path.size();
  const bool is_leaf = field != nullptr && field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE;
  if (field == nullptr) {
    const std::optional<Target> meant = formerly(prefix + std::string(path));
    if (meant) return override_value(*meant->section, *meant->field, meant->key, value);
  }
  if (field == nullptr || (is_leaf && !is_last)) return unknown_key(kCommandLine, section, prefix, path);
  const std::string key = prefix + std::string(name);
  if (is_last) return override_value(section, *field, key, value);
  if (is_section(*field)) {
    Message* next = section.GetReflection()->MutableMessage(&section, field);
    return override_in(*next, key + ".", inner, value);
  }
  const auto [index, rest] = cut(inner, '.');
  Message* next = element(section, *field, index, key);
  if (next == nullptr) return;
  const std::string element_key = fmt::format("{}.{}", key, index);
  if (index.size() == inner.size()) return override_element(*next, element_key, value);
  override_in(*next, element_key + ".", rest, value);
}

std::optional<YamlNode> YamlWalker::node_of(std::string_view value) {
  if (value.find_first_not_of(" \t\n") == std::string_view::npos) {
    return YamlNode{YamlNode::Kind::kNull, kCommandLine, std::string(value), false, {}, {}};
  }
  return parse_yaml({value, kCommandLine.source, YamlOrigin::kCommandLine}, findings_);
}

void YamlWalker::override_value(Message& section, const FieldDescriptor& field, const std::string& key,
                                std::string_view value) {
  // Text is taken as the shell hands it over.
  std::optional<YamlNode> node =
      YamlNode{YamlNode::Kind::kScalar, kCommandLine, std::string(value), false, {}, {}};
  if (field.cpp_type() != FieldDescriptor::CPPTYPE_STRING) node = node_of(value);
  if (node) walk_value(*node, section, field, key);
}

void YamlWalker::override_element(Message& element, const std::string& key, std::string_view value) {
  const std::optional<YamlNode> node = node_of(value);
  if (node && is_section_of(*node, key)) walk_section(*node, element, key + ".");
}

Message* YamlWalker::element(Message& section, const FieldDescriptor& field, std::string_view index,
                             const std::string& key) {
  const Reflection* reflection = section.GetReflection();
  const int size = reflection->FieldSize(section, &field);
  const Parsed<std::uint64_t> at = parse_unsigned(index);
  if (!at.problem.empty() || at.value > static_cast<std::uint64_t>(size)) {
    findings_.add_for(
        key, kCommandLine,
        fmt::format("{}: \"{}\" is not the number of an element, 0 to {}", key, printable(index), size));
    return nullptr;
  }
  if (at.value == static_cast<std::uint64_t>(size)) return reflection->AddMessage(&section, &field);
  return reflection->MutableRepeatedMessage(&section, &field, static_cast<int>(at.value));
}

void YamlWalker::unknown_key(const ConfigPlace& place, const Message& section, const std::string& prefix,
                             std::string_view name) {
  std::vector<std::string> siblings;
  const Descriptor* descriptor = section.GetDescriptor();
  for (int i = 0; i < descriptor->field_count(); ++i) siblings.push_back(descriptor->field(i)->name());
  std::optional<std::string> guess = nearest(name, siblings);
  if (guess) guess = prefix + *guess;
  if (!guess) {  // the right name in the wrong section
    const std::string_view last = name.substr(name.rfind('.') + 1);
    for (const NamedOption& option : all_options(*whole_.GetDescriptor())) {
      if (!guess && option.field->name() == last) guess = option.key;
    }
  }
  const std::string typed = prefix + std::string(name);
  if (guess) findings_.distrust(*guess);
  findings_.add(place,
                fmt::format("unknown key \"{}\"{}", printable(typed),
                            guess && guess != typed ? fmt::format("; did you mean \"{}\"?", *guess) : ""));
}

void YamlWalker::dotted_key(const ConfigPlace& place, const std::string& prefix, const std::string& name) {
  std::vector<std::string> keys;
  for (const NamedOption& option : all_options(*whole_.GetDescriptor())) {
    if (option.key.starts_with(prefix)) keys.push_back(option.key.substr(prefix.size()));
  }
  const bool is_option = std::find(keys.begin(), keys.end(), name) != keys.end();
  const std::optional<std::string> meant = is_option ? std::optional(name) : nearest(name, keys);
  if (meant) findings_.distrust(prefix + *meant);
  std::string nested = meant.value_or(name), end;
  for (std::size_t at = nested.find('.'); at != std::string::npos; at = nested.find('.', at)) {
    nested.replace(at, 1, ": {"), end += '}';
  }
  findings_.add(place, fmt::format("unknown key \"{}\"; in a file, nest it: {}: ...{}",
                                   printable(prefix + name), printable(nested), end));
}

void YamlWalker::require_all(const ConfigPlace& source) {
  require_in(whole_, "", source);
}

void YamlWalker::require_in(const Message& section, const std::string& prefix, const ConfigPlace& source) {
  const Reflection* reflection = section.GetReflection();
  for (int i = 0; i < section.GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor* field = section.GetDescriptor()->field(i);
    const std::string key = prefix + field->name();
    if (is_section(*field)) {
      require_in(reflection->GetMessage(section, field), key + ".", source);
    } else if (field->is_repeated()) {
      for (int n = 0; n < reflection->FieldSize(section, field); ++n) {
        require_in(reflection->GetRepeatedMessage(section, field, n), fmt::format("{}.{}.", key, n), source);
      }
    } else if (is_required(*field) && !findings_.was_given(key)) {
      findings_.add_for(key, source, fmt::format("{} is missing: {}", key, help_of(*field)));
    }
  }
}

}  // namespace jevons
