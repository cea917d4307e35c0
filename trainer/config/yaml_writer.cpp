#include "trainer/config/yaml_writer.h"

#include <fmt/format.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <vector>

#include "trainer/config/option.h"

namespace jevons {
namespace {

using google::protobuf::EnumDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

std::string scalar_text(const Message& message, const FieldDescriptor& field) {
  const Reflection* get = message.GetReflection();
  const auto or_word = [&](auto value, const std::string& text) {
    return !word_for(field).empty() && value == kWordValue ? word_for(field) : text;
  };
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_BOOL:
      return get->GetBool(message, &field) ? "true" : "false";
    case FieldDescriptor::CPPTYPE_DOUBLE: {
      const double value = get->GetDouble(message, &field);
      return or_word(value, number_text(value));
    }
    case FieldDescriptor::CPPTYPE_STRING:
      return yaml_text(get->GetString(message, &field));
    case FieldDescriptor::CPPTYPE_ENUM:
      return choice_name(*get->GetEnum(message, &field));
    case FieldDescriptor::CPPTYPE_INT32:
      return fmt::format("{}", get->GetInt32(message, &field));
    case FieldDescriptor::CPPTYPE_INT64: {
      const std::int64_t value = get->GetInt64(message, &field);
      return or_word(value, fmt::format("{}", value));
    }
    case FieldDescriptor::CPPTYPE_UINT64:
      return fmt::format("{}", get->GetUInt64(message, &field));
    default:
      return "";
  }
}

// "steps; at least 1; default 3"
std::string facts_of(const FieldDescriptor& field) {
  std::vector<std::string> facts;
  if (!unit_of(field).empty()) facts.push_back(unit_of(field));
  if (!range_of(field).empty()) facts.push_back(range_of(field));
  facts.push_back(is_required(field) ? "required" : "default " + default_of(field));
  return fmt::format("{}", fmt::join(facts, "; "));
}

// One line per value of an enum: "head: RMSNorm over each head".
std::vector<std::string> choice_lines(const FieldDescriptor& field) {
  std::vector<std::string> lines;
  const EnumDescriptor* type = field.enum_type();
  for (int i = 0; type != nullptr && i < type->value_count(); ++i) {
    lines.push_back(fmt::format("{}: {}", choice_name(*type->value(i)), choice_help(*type->value(i))));
  }
  return lines;
}

class Writer {
 public:
  explicit Writer(Comments comments) : comments_(comments) {}

  void section(const Message& message, const std::string& indent) {
    for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
      const FieldDescriptor* field = message.GetDescriptor()->field(i);
      if (indent.empty() && field->name() == "include") continue;  // what it named is part of the values
      comment(*field, indent);
      if (is_section(*field)) {
        line(indent, field->name() + ":");
        section(message.GetReflection()->GetMessage(message, field), indent + "  ");
      } else if (field->is_repeated()) {
        list(message, *field, indent);
      } else {
        line(indent, fmt::format("{}: {}", field->name(), scalar_text(message, *field)));
      }
    }
  }

  std::string take() { return std::move(text_); }

 private:
  void line(const std::string& indent, const std::string& content) { text_ += indent + content + "\n"; }

  void comment(const FieldDescriptor& field, const std::string& indent) {
    if (comments_ == Comments::kNone || in_list_) return;
    const bool is_option = field.cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE;
    line(indent,
         is_option ? fmt::format("# {} ({})", help_of(field), facts_of(field)) : "# " + help_of(field));
    for (const std::string& choice : choice_lines(field)) line(indent, "#   " + choice);
  }

  void list(const Message& message, const FieldDescriptor& field, const std::string& indent) {
    const int size = message.GetReflection()->FieldSize(message, &field);
    line(indent, field.name() + (size == 0 ? ": []" : ":"));
    in_list_ = true;
    for (int n = 0; n < size; ++n) {
      const std::size_t start = text_.size();
      section(message.GetReflection()->GetRepeatedMessage(message, &field, n), indent + "    ");
      text_[start + indent.size() + 2] = '-';
    }
    in_list_ = false;
  }

  Comments comments_;
  bool in_list_ = false;
  std::string text_;
};

std::string text_entry(const NamedOption& option) {
  const FieldDescriptor& field = *option.field;
  std::string entry =
      fmt::format("{}: {} ({})\n    {}\n", option.key, type_of(field), facts_of(field), help_of(field));
  for (const std::string& choice : choice_lines(field)) entry += "    " + choice + "\n";
  return entry;
}

std::string table_row(const NamedOption& option) {
  const FieldDescriptor& field = *option.field;
  std::string help = help_of(field);
  for (const std::string& choice : choice_lines(field)) help += "<br>" + choice;
  return fmt::format("| `{}` | {} | {} | {} | {} | {} |\n", option.key, type_of(field), default_of(field),
                     range_of(field), unit_of(field), help);
}

}  // namespace

std::string write_yaml(const Message& message, Comments comments) {
  Writer writer(comments);
  writer.section(message, "");
  return writer.take();
}

std::map<std::string, std::string> flat_values(const Message& message, const std::string& prefix) {
  std::map<std::string, std::string> values;
  const Reflection* get = message.GetReflection();
  for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor* field = message.GetDescriptor()->field(i);
    const std::string key = prefix + field->name();
    if (is_section(*field)) {
      values.merge(flat_values(get->GetMessage(message, field), key + "."));
    } else if (field->is_repeated()) {
      for (int n = 0; n < get->FieldSize(message, field); ++n) {
        values.merge(flat_values(get->GetRepeatedMessage(message, field, n), fmt::format("{}.{}.", key, n)));
      }
    } else {
      values[key] = scalar_text(message, *field);
    }
  }
  return values;
}

std::string describe_options(const google::protobuf::Descriptor& root, SchemaFormat format) {
  std::string text;
  if (format == SchemaFormat::kMarkdown)
    text = "| key | type | default | range | unit | meaning |\n|---|---|---|---|---|---|\n";
  for (const NamedOption& option : all_options(root)) {
    text += format == SchemaFormat::kMarkdown ? table_row(option) : text_entry(option);
  }
  return text;
}

}  // namespace jevons
