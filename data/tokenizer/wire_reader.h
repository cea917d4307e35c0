// The fields of a Protocol Buffers message, one after the other. Any bytes are safe input.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "kernels/core/error.h"

namespace jevons {

class WireReader {
 public:
  enum Type { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

  // `name` is for messages and outlives the reader; `offset`: where `bytes` lie in the file.
  WireReader(std::string_view bytes, const std::string& name, std::size_t offset = 0)
      : bytes_(bytes), name_(name), offset_(offset) {}

  // Moves to the next field; false at the end.
  bool next() {
    if (at_ == bytes_.size()) return false;
    const std::uint64_t key = varint();
    number_ = static_cast<std::uint32_t>(key >> 3);
    type_ = static_cast<int>(key & 7);
    if (number_ == 0 || key >> 32 != 0) failed("no field begins here");
    if (type_ == kVarint) {
      value_ = varint();
    } else if (type_ == kBytes) {
      const std::uint64_t size = varint();
      take(size);
    } else if (type_ == kFixed32 || type_ == kFixed64) {
      take(type_ == kFixed32 ? 4 : 8);
    } else {
      failed("a field of a type that there is not");
    }
    return true;
  }

  std::uint32_t number() const { return number_; }
  std::uint64_t integer() const { return expect(kVarint), value_; }
  std::string_view text() const { return expect(kBytes), part_; }
  float real() const {
    expect(kFixed32);
    float value;
    std::memcpy(&value, part_.data(), sizeof(value));
    return value;
  }
  WireReader message() const {
    expect(kBytes);
    return {part_, name_, offset_ + static_cast<std::size_t>(part_.data() - bytes_.data())};
  }

 private:
  [[noreturn]] void failed(const char* what) const {
    fail(ExitCode::kData, "{}: offset {}: {}: this is no SentencePiece model", name_, offset_ + at_, what);
  }
  void expect(Type type) const {
    if (type_ != type) failed("a field of another type than expected");
  }
  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (at_ == bytes_.size()) failed("the bytes end within a number");
      const auto byte = static_cast<unsigned char>(bytes_[at_++]);
      value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    failed("a number that is too long");
  }
  void take(std::uint64_t size) {
    if (size > bytes_.size() - at_) failed("a field that is longer than what is left");
    part_ = bytes_.substr(at_, size);
    at_ += size;
  }

  std::string_view bytes_, part_;
  const std::string& name_;
  std::size_t offset_, at_ = 0;
  std::uint32_t number_ = 0;
  int type_ = 0;
  std::uint64_t value_ = 0;
};

}  // namespace jevons
