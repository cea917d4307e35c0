#include "trainer/io/npy.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <optional>

#include "kernels/core/error.h"
#include "trainer/io/box.h"

namespace jevons {
namespace {

constexpr std::size_t kPrefix = 8;  // magic, version

// The dictionary of a header, as NumPy writes it: a Python literal with three known keys.
class Literal {
 public:
  Literal(std::string_view text, const std::string& path) : text_(text), path_(path) {}

  NpyHeader parse() {
    NpyHeader header;
    bool has_descr = false, has_order = false, has_shape = false;
    take('{');
    while (!next_is('}')) {
      const std::string key = quoted();
      take(':');
      if (key == "descr") {
        header.descr = quoted();
        has_descr = true;
      } else if (key == "fortran_order") {
        if (word() != "False") bad("its elements are not in C order");
        has_order = true;
      } else if (key == "shape") {
        header.shape = tuple();
        has_shape = true;
      } else {
        bad(fmt::format("its header has the key '{}'", key));
      }
      if (!next_is('}')) take(',');
    }
    if (!has_descr || !has_order || !has_shape) bad("its header is not complete");
    return header;
  }

  [[noreturn]] void bad(const std::string& what) const { fail(ExitCode::kData, "{}: {}", path_, what); }

 private:
  void skip_blanks() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) ++at_;
  }
  bool next_is(char c) {
    skip_blanks();
    return at_ < text_.size() && text_[at_] == c;
  }
  void take(char c) {
    if (!next_is(c)) bad("its header cannot be read");
    ++at_;
  }
  std::string quoted() {
    take('\'');
    const std::size_t end = text_.find('\'', at_);
    if (end == std::string_view::npos) bad("its header cannot be read");
    std::string value(text_.substr(at_, end - at_));
    const bool plain = std::all_of(value.begin(), value.end(), [](char c) { return c >= ' ' && c <= '~'; });
    if (!plain) bad("its header cannot be read");
    at_ = end + 1;
    return value;
  }
  std::string word() {
    skip_blanks();
    const std::size_t begin = at_;
    while (at_ < text_.size() && std::isalnum(static_cast<unsigned char>(text_[at_]))) ++at_;
    return std::string(text_.substr(begin, at_ - begin));
  }
  std::vector<std::int64_t> tuple() {
    std::vector<std::int64_t> values;
    take('(');
    while (!next_is(')')) {
      const std::string digits = word();
      std::int64_t value = 0;
      const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
      if (error != std::errc() || end != digits.data() + digits.size()) bad("its shape cannot be read");
      values.push_back(value);
      if (!next_is(')')) take(',');
    }
    take(')');
    return values;
  }

  std::string_view text_;
  const std::string& path_;
  std::size_t at_ = 0;
};

// "<i4", "|u1".
bool is_plain_number(const std::string& descr) {
  constexpr std::string_view kKinds = "iuf", kBytes = "1248";
  if (descr.size() != 3) return false;
  const bool ordered = descr[0] == '<' || (descr[0] == '|' && descr[2] == '1');
  return ordered && kKinds.find(descr[1]) != std::string_view::npos &&
         kBytes.find(descr[2]) != std::string_view::npos;
}

}  // namespace

NpyHeader parse_npy_header(std::span<const std::byte> start, std::uint64_t file_size,
                           const std::string& path) {
  const std::string_view text(reinterpret_cast<const char*>(start.data()), start.size());
  if (!text.starts_with(kNpyMagic) || text.size() < kPrefix + 4) {
    fail(ExitCode::kData, "{}: is no NumPy file", path);
  }
  const auto byte = [&](std::size_t i) {
    return static_cast<std::size_t>(static_cast<unsigned char>(text[i]));
  };
  const std::size_t version = byte(6), width = version == 1 ? 2 : 4;
  std::size_t length = 0;
  for (std::size_t i = width; i-- > 0;) length = length << 8 | byte(kPrefix + i);
  if (version < 1 || version > 3 || length > text.size() - kPrefix - width) {
    fail(ExitCode::kData, "{}: is no NumPy file of a version that is read, or its header is cut short", path);
  }
  Literal literal(text.substr(kPrefix + width, length), path);
  NpyHeader header = literal.parse();
  header.data_begin = kPrefix + width + length;
  if (!is_plain_number(header.descr))
    literal.bad(fmt::format("elements of type '{}' are not read", header.descr));
  const std::optional<std::int64_t> numel = checked_numel(header.shape);
  std::uint64_t bytes = 0;
  if (!numel || __builtin_mul_overflow(static_cast<std::uint64_t>(*numel), header.element_bytes(), &bytes) ||
      bytes != file_size - header.data_begin) {
    literal.bad(fmt::format("its shape ({}) of {} does not fill the {} bytes behind its header",
                            fmt::join(header.shape, ", "), header.descr, file_size - header.data_begin));
  }
  return header;
}

std::string format_npy_header(const std::string& descr, std::span<const std::int64_t> shape) {
  constexpr std::size_t kMultiple = 64, kLengthBytes = 2;
  std::string text = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}{}), }}", descr,
                                 fmt::join(shape, ", "), shape.size() == 1 ? "," : "");
  const std::size_t before = kPrefix + kLengthBytes;
  text.append(kMultiple - 1 - (before + text.size()) % kMultiple, ' ');
  text += '\n';
  std::string bytes(kNpyMagic);
  bytes += {'\x01', '\x00'};
  for (std::size_t i = 0; i < kLengthBytes; ++i) bytes += static_cast<char>(text.size() >> (8 * i) & 0xff);
  return bytes + text;
}

}  // namespace jevons
