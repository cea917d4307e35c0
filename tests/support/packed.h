// Values as bytes and back, for results that go from one process to another: whatever can be copied byte by
// byte, strings, vectors, maps, pairs, and structs whose fields() ties what they hold. No addresses.
#pragma once

#include <cstddef>
#include <cstring>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#include "kernels/core/error.h"

namespace jevons::test {

template <class T>
concept HasFields = requires(T value) {
  value.fields();
};
template <class T>
concept IsPair = requires(T value) {
  value.first, value.second;
};
template <class T>
concept IsMap = requires {
  typename T::mapped_type;
};

class Packer {
 public:
  template <class T>
  void put(T& value) {
    static_assert(!std::is_pointer_v<T>);
    if constexpr (HasFields<T>) {
      std::apply([&](auto&... fields) { (put(fields), ...); }, value.fields());
    } else if constexpr (std::is_trivially_copyable_v<T>) {
      bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
    } else if constexpr (IsPair<T>) {
      put(value.first), put(value.second);
    } else {
      std::size_t count = value.size();
      put(count);
      for (auto& element : value) put(element);
    }
  }
  std::string take() { return std::move(bytes_); }

 private:
  std::string bytes_;
};

class Unpacker {
 public:
  explicit Unpacker(const std::string& bytes) : bytes_(bytes) {}

  template <class T>
  void get(T& value) {
    if constexpr (HasFields<T>) {
      std::apply([&](auto&... fields) { (get(fields), ...); }, value.fields());
    } else if constexpr (std::is_trivially_copyable_v<T>) {
      ENSURE(sizeof value <= bytes_.size() - at_, "packed bytes end early");
      std::memcpy(static_cast<void*>(std::addressof(value)), bytes_.data() + at_, sizeof value);
      at_ += sizeof value;
    } else if constexpr (IsPair<T>) {
      get(value.first), get(value.second);
    } else if constexpr (IsMap<T>) {
      for (std::size_t left = count(); left > 0; --left) {
        std::pair<typename T::key_type, typename T::mapped_type> entry;
        get(entry);
        value.insert(std::move(entry));
      }
    } else {
      value.resize(count());
      for (auto& element : value) get(element);
    }
  }

 private:
  std::size_t count() {
    std::size_t n = 0;
    get(n);
    return n;
  }

  const std::string& bytes_;
  std::size_t at_ = 0;
};

template <class T>
std::string packed(T value) {
  Packer packer;
  packer.put(value);
  return packer.take();
}

template <class T>
T unpacked(const std::string& bytes) {
  T value;
  Unpacker(bytes).get(value);
  return value;
}

}  // namespace jevons::test
