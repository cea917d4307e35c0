// What the schema says about one option, read from the annotations of its protobuf field; and the list of all
// options.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace google::protobuf {
class Descriptor;
class EnumValueDescriptor;
class FieldDescriptor;
}  // namespace google::protobuf

namespace jevons {

// A field without a message of its own is an option; a singular message is a section; a repeated message is a
// list.
bool is_section(const google::protobuf::FieldDescriptor&);

std::string help_of(const google::protobuf::FieldDescriptor&);
std::string unit_of(const google::protobuf::FieldDescriptor&);
bool is_path(const google::protobuf::FieldDescriptor&);  // text that names a file or directory
bool is_required(const google::protobuf::FieldDescriptor&);
std::string former_key_of(const google::protobuf::FieldDescriptor&);  // or ""
// "at least 0 and less than 1"; empty when every value of the type will do.
std::string range_of(const google::protobuf::FieldDescriptor&);
bool in_range(const google::protobuf::FieldDescriptor&, double value);

// The word that may be given for the number, or ""; what is stored then.
std::string word_for(const google::protobuf::FieldDescriptor&);
inline constexpr std::int64_t kWordValue = -1;

// QK_NORM_HEAD is written "head".
std::string choice_name(const google::protobuf::EnumValueDescriptor&);
std::string choice_help(const google::protobuf::EnumValueDescriptor&);
std::vector<std::string> choices_of(const google::protobuf::FieldDescriptor&);

// "whole number", "whole number or auto", "number", "number or size", "true or false", "text", "one of f32,
// bf16".
std::string type_of(const google::protobuf::FieldDescriptor&);
// As YAML would write it; "required" for options without one.
std::string default_of(const google::protobuf::FieldDescriptor&);
// A double as the shortest text that reads back to the same bits.
std::string number_text(double value);
// Text as a YAML scalar, in quotes where a plain one could mean something else.
std::string yaml_text(std::string_view text);

struct NamedOption {
  std::string key;  // "model.moe.top_k"; elements of lists: "data.train.N.path"
  const google::protobuf::FieldDescriptor* field;
};
// In the order of the schema.
std::vector<NamedOption> all_options(const google::protobuf::Descriptor&, const std::string& prefix = "");

// The candidate that `word` is most likely a slip of (optimal string alignment distance), if any is near.
std::optional<std::string> nearest(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace jevons
