// Carries values between a message of the schema and plain structs, either way: one list of members serves
// both, so that what is read can be written.
#pragma once

#include <fmt/format.h>
#include <google/protobuf/message.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "trainer/config/findings.h"

namespace jevons {

// An enumerator and the word that stands for it in a configuration.
template <class T>
struct Choice {
  T value;
  const char* name;
};

class Bridge {
 public:
  // From the message to structs; what texts do not say is added to `findings`.
  Bridge(google::protobuf::Message& message, Findings& findings) : message_(message), findings_(&findings) {}
  // From structs to the message.
  explicit Bridge(google::protobuf::Message& message) : message_(message) {}

  bool to_struct() const { return findings_ != nullptr; }
  // The option's value to `member`, or back. Throws Error(kFailure) for a name that the message does not
  // have.
  void operator()(const char* option, bool& member);
  void operator()(const char* option, double& member);
  void operator()(const char* option, std::string& member);
  template <class T>
  requires(std::is_integral_v<T> && !std::is_same_v<T, bool>) void operator()(const char* option, T& member) {
    // Through 64 bits, whose pattern an unsigned option keeps.
    auto value = static_cast<std::int64_t>(member);
    number(option, value);
    member = static_cast<T>(value);
  }
  // `choices` must be those of the schema.
  template <class T, std::size_t N>
  void operator()(const char* option, T& member, const Choice<T> (&choices)[N]) {
    std::string name;
    for (const Choice<T>& each : choices) {
      if (each.value == member) name = each.name;
    }
    check_number_of_choices(option, N);
    choice(option, name);
    const Choice<T>* found =
        std::find_if(choices, choices + N, [&](const Choice<T>& each) { return each.name == name; });
    check_choice(option, name, found != choices + N);
    member = found->value;
  }
  // A choice whose member holds its name.
  void choice(const char* option, std::string& member);
  // Text that `parse` makes an optional value of and `write` text again; `problem` is said after text that is
  // none.
  template <class T, class Parse, class Write>
  void text(const char* option, T& member, Parse parse, Write write, const char* problem) {
    std::string written = to_struct() ? "" : write(member);
    (*this)(option, written);
    if (!to_struct()) return;
    const std::optional<T> value = parse(written);
    if (value) {
      member = *value;
    } else {
      const std::string key = prefix_ + option;
      findings_->add_for(key, fmt::format("{} = \"{}\"{}", key, written, problem));
    }
  }

  Bridge section(const char* option);
  // `each(bridge, item)` carries one element.
  template <class Item, class F>
  void list(const char* option, std::vector<Item>& items, F each) {
    const std::size_t size = resize(option, items.size());
    items.resize(size);
    for (std::size_t i = 0; i < size; ++i) each(element(option, i), items[i]);
  }

 private:
  Bridge(google::protobuf::Message& message, Findings* findings, std::string prefix)
      : message_(message), findings_(findings), prefix_(std::move(prefix)) {}
  const google::protobuf::FieldDescriptor* field(const char* option) const;
  void number(const char* option, std::int64_t& value);
  void check_number_of_choices(const char* option, std::size_t known) const;
  void check_choice(const char* option, const std::string& name, bool known) const;
  std::size_t resize(const char* option, std::size_t items);  // the message's list, or what that has
  Bridge element(const char* option, std::size_t i);

  google::protobuf::Message& message_;
  Findings* findings_ = nullptr;  // null: to the message
  std::string prefix_;            // of the section's keys
};

}  // namespace jevons
