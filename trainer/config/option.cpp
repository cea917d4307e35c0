#include "trainer/config/option.h"

#include <fmt/format.h>
#include <google/protobuf/descriptor.h>

#include <algorithm>
#include <cctype>

#include "annotations.pb.h"

namespace jevons {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumDescriptor;
using google::protobuf::EnumValueDescriptor;
using google::protobuf::FieldDescriptor;

const schema::Option& annotation(const FieldDescriptor& field) {
  return field.options().GetExtension(schema::opt);
}

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text;
}

// "QkNorm" is the prefix "qk_norm_" of its values.
std::string value_prefix(const EnumDescriptor& type) {
  std::string prefix;
  for (const char c : type.name()) {
    if (std::isupper(static_cast<unsigned char>(c)) && !prefix.empty()) prefix += '_';
    prefix += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  return prefix + "_";
}

// Optimal string alignment: insertions, deletions, substitutions, swaps of neighbours.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::vector<std::size_t>> d(a.size() + 1, std::vector<std::size_t>(b.size() + 1));
  for (std::size_t i = 0; i <= a.size(); ++i) d[i][0] = i;
  for (std::size_t j = 0; j <= b.size(); ++j) d[0][j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    for (std::size_t j = 1; j <= b.size(); ++j) {
      d[i][j] = std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (a[i - 1] != b[j - 1])});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
    }
  }
  return d[a.size()][b.size()];
}

}  // namespace

bool is_section(const FieldDescriptor& field) {
  return field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE && !field.is_repeated();
}

std::string help_of(const FieldDescriptor& field) {
  return annotation(field).help();
}
std::string unit_of(const FieldDescriptor& field) {
  return annotation(field).unit();
}
bool is_path(const FieldDescriptor& field) {
  return annotation(field).path();
}
bool is_required(const FieldDescriptor& field) {
  return annotation(field).required();
}
std::string former_key_of(const FieldDescriptor& field) {
  return annotation(field).former();
}

std::string range_of(const FieldDescriptor& field) {
  const schema::Option& o = annotation(field);
  std::vector<std::string> parts;
  if (o.has_min()) parts.push_back("at least " + number_text(o.min()));
  if (o.has_above()) parts.push_back("greater than " + number_text(o.above()));
  if (o.has_max()) parts.push_back("at most " + number_text(o.max()));
  if (o.has_below()) parts.push_back("less than " + number_text(o.below()));
  return fmt::format("{}", fmt::join(parts, " and "));
}

bool in_range(const FieldDescriptor& field, double value) {
  const schema::Option& o = annotation(field);
  return !(o.has_min() && value < o.min()) && !(o.has_max() && value > o.max()) &&
         !(o.has_above() && value <= o.above()) && !(o.has_below() && value >= o.below());
}

std::string word_for(const FieldDescriptor& field) {
  return annotation(field).word();
}

std::string choice_name(const EnumValueDescriptor& value) {
  return lower(value.name()).substr(value_prefix(*value.type()).size());
}

std::string choice_help(const EnumValueDescriptor& value) {
  return value.options().GetExtension(schema::choice);
}

std::vector<std::string> choices_of(const FieldDescriptor& field) {
  std::vector<std::string> names;
  const EnumDescriptor* type = field.enum_type();
  for (int i = 0; type != nullptr && i < type->value_count(); ++i)
    names.push_back(choice_name(*type->value(i)));
  return names;
}

std::string type_of(const FieldDescriptor& field) {
  const std::string word = word_for(field).empty() ? "" : " or " + word_for(field);
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_BOOL:
      return "true or false";
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return "number" + word;
    case FieldDescriptor::CPPTYPE_STRING:
      return "text";
    case FieldDescriptor::CPPTYPE_ENUM:
      return fmt::format("one of {}", fmt::join(choices_of(field), ", "));
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return field.is_repeated() ? "list" : "section";
    default:
      return "whole number" + word;
  }
}

std::string default_of(const FieldDescriptor& field) {
  if (is_required(field)) return "required";
  if (field.is_repeated()) return "[]";
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_BOOL:
      return field.default_value_bool() ? "true" : "false";
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return number_text(field.default_value_double());
    case FieldDescriptor::CPPTYPE_STRING:
      return yaml_text(field.default_value_string());
    case FieldDescriptor::CPPTYPE_ENUM:
      return choice_name(*field.default_value_enum());
    case FieldDescriptor::CPPTYPE_INT32:
      return fmt::format("{}", field.default_value_int32());
    case FieldDescriptor::CPPTYPE_INT64:
      return fmt::format("{}", field.default_value_int64());
    case FieldDescriptor::CPPTYPE_UINT64:
      return fmt::format("{}", field.default_value_uint64());
    default:
      return "";
  }
}

std::string number_text(double value) {
  return fmt::format("{}", value);
}

std::string yaml_text(std::string_view text) {
  const auto is_word = [](unsigned char c) {
    return std::isalnum(c) || c == '_' || c == '.' || c == '/' || c == '-';
  };
  const bool starts_well = !text.empty() && (std::isalpha(static_cast<unsigned char>(text[0])) ||
                                             (text[0] == '/' && text.size() > 1));
  const std::string folded = lower(std::string(text));
  const std::vector<std::string> words = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"};
  const bool means_something = std::find(words.begin(), words.end(), folded) != words.end();
  if (starts_well && !means_something && std::all_of(text.begin(), text.end(), is_word))
    return std::string(text);
  std::string quoted = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      quoted += {'\\', c};
    } else if (byte < 0x20 || byte == 0x7f) {
      quoted += fmt::format("\\x{:02x}", byte);
    } else {
      quoted += c;
    }
  }
  return quoted + "\"";
}

std::vector<NamedOption> all_options(const Descriptor& section, const std::string& prefix) {
  std::vector<NamedOption> options;
  for (int i = 0; i < section.field_count(); ++i) {
    const FieldDescriptor* field = section.field(i);
    const std::string key = prefix + field->name();
    if (!is_section(*field)) options.push_back({key, field});
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      const std::string inner = key + (field->is_repeated() ? ".N." : ".");
      for (NamedOption& option : all_options(*field->message_type(), inner))
        options.push_back(std::move(option));
    }
  }
  return options;
}

std::optional<std::string> nearest(std::string_view word, const std::vector<std::string>& candidates) {
  constexpr std::size_t kLongestWord = 64;  // nobody misspells a longer one
  if (word.size() > kLongestWord) return std::nullopt;
  std::optional<std::string> best;
  std::size_t best_distance = std::max<std::size_t>(1, word.size() / 3) + 1;
  for (const std::string& candidate : candidates) {
    const std::size_t distance = edit_distance(word, candidate);
    if (distance < best_distance) best_distance = distance, best = candidate;
  }
  return best;
}

}  // namespace jevons
