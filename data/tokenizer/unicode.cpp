#include "data/tokenizer/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "data/tokenizer/newer_characters.h"
#include "kernels/core/error.h"

namespace jevons {
namespace {

constexpr std::string_view kReplacement = "\xef\xbf\xbd";  // U+FFFD

unsigned char byte_at(std::string_view text, std::size_t at) {
  return static_cast<unsigned char>(text[at]);
}

// Length of the character that begins at `at` (> 0), or, below 0, of the part that cannot be one.
int character_size(std::string_view text, std::size_t at) {
  const unsigned char lead = byte_at(text, at);
  if (lead < 0x80) return 1;
  if (lead < 0xc2 || lead > 0xf4) return -1;
  const int size = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  // The second byte must not make it an overlong form, a surrogate or more than U+10FFFF.
  unsigned char low = 0x80, high = 0xbf;
  if (lead == 0xe0) low = 0xa0;
  if (lead == 0xed) high = 0x9f;
  if (lead == 0xf0) low = 0x90;
  if (lead == 0xf4) high = 0x8f;
  for (int i = 1; i < size; ++i, low = 0x80, high = 0xbf) {
    const std::size_t next = at + static_cast<std::size_t>(i);
    if (next >= text.size() || byte_at(text, next) < low || byte_at(text, next) > high) return -i;
  }
  return size;
}

// Where ASCII ends, from `at` on.
std::size_t skip_ascii(std::string_view text, std::size_t at) {
  constexpr std::uint64_t kHighBits = 0x8080808080808080;
  for (; at + sizeof(std::uint64_t) <= text.size(); at += sizeof(std::uint64_t)) {
    std::uint64_t eight;
    std::memcpy(&eight, text.data() + at, sizeof(eight));
    if ((eight & kHighBits) != 0) break;
  }
  while (at < text.size() && byte_at(text, at) < 0x80) ++at;
  return at;
}

// The first place that is no UTF-8, from `at` on.
std::size_t valid_end(std::string_view text, std::size_t at) {
  for (;;) {
    at = skip_ascii(text, at);
    if (at == text.size()) return at;
    const int size = character_size(text, at);
    if (size < 0) return at;
    at += static_cast<std::size_t>(size);
  }
}

void append_normalized(std::string_view text, NormalForm form, std::string& out) {
  if (text.empty()) return;
  const bool compose = form == NormalForm::kC || form == NormalForm::kKC;
  const bool compatible = form == NormalForm::kKC || form == NormalForm::kKD;
  const int options = UTF8PROC_STABLE | (compose ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE) |
                      (compatible ? UTF8PROC_COMPAT : 0);
  utf8proc_uint8_t* result = nullptr;
  const utf8proc_ssize_t size = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                             static_cast<utf8proc_ssize_t>(text.size()), &result,
                                             static_cast<utf8proc_option_t>(options));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(result, &std::free);
  ENSURE(size >= 0, "normal form of {} bytes: {}", text.size(), utf8proc_errmsg(size));
  out.append(reinterpret_cast<const char*>(result), static_cast<std::size_t>(size));
}

bool is_plain_byte(unsigned byte) {
  return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}

struct Alphabet {
  std::array<char32_t, 256> of_byte;
  std::array<std::int16_t, 0x144> byte_of;  // -1: none
  Alphabet() {
    byte_of.fill(-1);
    char32_t next = 0x100;
    for (unsigned byte = 0; byte < 256; ++byte) {
      of_byte[byte] = is_plain_byte(byte) ? byte : next++;
      byte_of[of_byte[byte]] = static_cast<std::int16_t>(byte);
    }
  }
};

const Alphabet& alphabet() {
  static const Alphabet kAlphabet;
  return kAlphabet;
}

}  // namespace

std::string_view valid_utf8(std::string_view text, std::string& fixed) {
  std::size_t at = valid_end(text, 0);
  if (at == text.size()) return text;
  fixed.assign(text.substr(0, at));
  while (at < text.size()) {
    at += static_cast<std::size_t>(-character_size(text, at));
    fixed += kReplacement;
    const std::size_t end = valid_end(text, at);
    fixed += text.substr(at, end - at);
    at = end;
  }
  return fixed;
}

bool is_utf8(std::string_view text) {
  return valid_end(text, 0) == text.size();
}

bool is_ascii(std::string_view text) {
  return skip_ascii(text, 0) == text.size();
}

char32_t next_character(std::string_view text, std::size_t& at) {
  const unsigned char lead = byte_at(text, at++);
  if (lead < 0x80) return lead;
  const int more = lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : 3;
  char32_t c = lead & (0x3fu >> more);
  for (int i = 0; i < more; ++i) c = c << 6 | (byte_at(text, at++) & 0x3fu);
  return c;
}

char32_t previous_character(std::string_view text, std::size_t& end) {
  do --end;
  while (end > 0 && (byte_at(text, end) & 0xc0) == 0x80);
  std::size_t at = end;
  return next_character(text, at);
}

void append_character(char32_t c, std::string& text) {
  utf8proc_uint8_t bytes[4];
  const utf8proc_ssize_t size = utf8proc_encode_char(static_cast<utf8proc_int32_t>(c), bytes);
  text.append(reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(size));
}

bool is_white_space(char32_t c) {
  return (c >= 9 && c <= 13) || c == ' ' || c == 0x85 || c == 0xa0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f ||
         c == 0x3000;
}

bool is_letter(char32_t c) {
  const utf8proc_category_t category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
}

bool is_word(char32_t c) {
  if (is_letter(c)) return true;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
      return true;
    default:
      // Joiners, and the letters in circles and squares, which are symbols by category and alphabetic.
      return c == 0x200c || c == 0x200d || (c >= 0x24b6 && c <= 0x24e9) || (c >= 0x1f130 && c <= 0x1f149) ||
             (c >= 0x1f150 && c <= 0x1f169) || (c >= 0x1f170 && c <= 0x1f189);
  }
}

std::string_view normalized(std::string_view text, NormalForm form, std::string& changed) {
  if (is_ascii(text)) return text;
  changed.clear();
  std::size_t begin = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t here = at;
    if (!later_in_normal_forms(next_character(text, at))) continue;
    append_normalized(text.substr(begin, here - begin), form, changed);
    changed += text.substr(here, at - here);
    begin = at;
  }
  append_normalized(text.substr(begin), form, changed);
  return changed;
}

char32_t character_of_byte(unsigned char byte) {
  return alphabet().of_byte[byte];
}

std::optional<std::string> bytes_of_alphabet(std::string_view token) {
  const Alphabet& known = alphabet();
  std::string bytes;
  for (std::size_t at = 0; at < token.size();) {
    const char32_t c = next_character(token, at);
    if (c >= known.byte_of.size() || known.byte_of[c] < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(known.byte_of[c]));
  }
  return bytes;
}

}  // namespace jevons
