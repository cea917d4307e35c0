// Carries values between a message of the schema and plain structs, either way: one list of members serves
// both, so that what is read can be written.
#pragma once

#include <google/protobuf/message.h>

#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

namespace jevons {

class Bridge {
 public:
  enum class Way : std::uint8_t { kToStruct, kToMessage };
  Bridge(google::protobuf::Message& message, Way way) : message_(message), way_(way) {}

  bool to_struct() const { return way_ == Way::kToStruct; }
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
  template <class T>
  requires(std::is_enum_v<T>) void operator()(const char* option, T& member) {
    auto value = static_cast<std::int64_t>(member);
    number(option, value);
    member = static_cast<T>(value);
  }
  // An option that is a choice and a member that holds the name of it.
  void choice(const char* option, std::string& member);

  Bridge section(const char* option);
  // `each(bridge, item)` carries one element.
  template <class Item, class F>
  void list(const char* option, std::vector<Item>& items, F each) {
    const std::size_t size = resize(option, items.size());
    items.resize(size);
    for (std::size_t i = 0; i < size; ++i) each(element(option, i), items[i]);
  }

 private:
  const google::protobuf::FieldDescriptor* field(const char* option) const;
  void number(const char* option, std::int64_t& value);
  std::size_t resize(const char* option, std::size_t items);  // the message's list, or what that has
  Bridge element(const char* option, std::size_t i);

  google::protobuf::Message& message_;
  Way way_;
};

}  // namespace jevons
