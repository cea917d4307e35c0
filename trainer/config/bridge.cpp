#include "trainer/config/bridge.h"

#include <google/protobuf/descriptor.h>

#include "kernels/core/error.h"
#include "trainer/config/option.h"

namespace jevons {

using google::protobuf::FieldDescriptor;
using google::protobuf::Reflection;

const FieldDescriptor* Bridge::field(const char* option) const {
  const FieldDescriptor* found = message_.GetDescriptor()->FindFieldByName(option);
  ENSURE(found != nullptr, "{} has no option '{}'", message_.GetTypeName(), option);
  return found;
}

void Bridge::operator()(const char* option, bool& member) {
  const Reflection* values = message_.GetReflection();
  if (to_struct()) {
    member = values->GetBool(message_, field(option));
  } else {
    values->SetBool(&message_, field(option), member);
  }
}

void Bridge::operator()(const char* option, double& member) {
  const Reflection* values = message_.GetReflection();
  if (to_struct()) {
    member = values->GetDouble(message_, field(option));
  } else {
    values->SetDouble(&message_, field(option), member);
  }
}

void Bridge::operator()(const char* option, std::string& member) {
  const Reflection* values = message_.GetReflection();
  if (to_struct()) {
    member = values->GetString(message_, field(option));
  } else {
    values->SetString(&message_, field(option), member);
  }
}

void Bridge::number(const char* option, std::int64_t& value) {
  const Reflection* values = message_.GetReflection();
  const FieldDescriptor* f = field(option);
  switch (f->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      if (to_struct()) return void(value = values->GetInt32(message_, f));
      return values->SetInt32(&message_, f, static_cast<std::int32_t>(value));
    case FieldDescriptor::CPPTYPE_INT64:
      if (to_struct()) return void(value = values->GetInt64(message_, f));
      return values->SetInt64(&message_, f, value);
    case FieldDescriptor::CPPTYPE_UINT64:
      if (to_struct()) return void(value = static_cast<std::int64_t>(values->GetUInt64(message_, f)));
      return values->SetUInt64(&message_, f, static_cast<std::uint64_t>(value));
    default:
      ENSURE(false, "option '{}' of {} is no whole number", option, message_.GetTypeName());
  }
}

void Bridge::choice(const char* option, std::string& member) {
  const Reflection* values = message_.GetReflection();
  const FieldDescriptor* f = field(option);
  if (to_struct()) {
    member = choice_name(*values->GetEnum(message_, f));
    return;
  }
  for (int i = 0; i < f->enum_type()->value_count(); ++i) {
    const auto* value = f->enum_type()->value(i);
    if (choice_name(*value) == member) return values->SetEnum(&message_, f, value);
  }
  ENSURE(false, "option '{}' has no choice '{}'", option, member);
}

void Bridge::check_number_of_choices(const char* option, std::size_t known) const {
  const auto in_schema = static_cast<std::size_t>(field(option)->enum_type()->value_count());
  ENSURE(in_schema == known, "option '{}' has {} choices, the program knows {}", option, in_schema, known);
}

void Bridge::check_choice(const char* option, const std::string& name, bool known) const {
  ENSURE(known, "option '{}': the program does not know the choice '{}'", option, name);
}

Bridge Bridge::section(const char* option) {
  return {*message_.GetReflection()->MutableMessage(&message_, field(option)), findings_,
          prefix_ + option + "."};
}

std::size_t Bridge::resize(const char* option, std::size_t items) {
  const Reflection* values = message_.GetReflection();
  if (to_struct()) return static_cast<std::size_t>(values->FieldSize(message_, field(option)));
  values->ClearField(&message_, field(option));
  for (std::size_t i = 0; i < items; ++i) values->AddMessage(&message_, field(option));
  return items;
}

Bridge Bridge::element(const char* option, std::size_t i) {
  return {*message_.GetReflection()->MutableRepeatedMessage(&message_, field(option), static_cast<int>(i)),
          findings_, fmt::format("{}{}.{}.", prefix_, option, i)};
}

}  // namespace jevons
