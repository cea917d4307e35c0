// UTF-8, and what Unicode says of characters (by utf8proc, but for normal forms the version does not matter
// to a text whose characters are older than it).
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace jevons {

// `text` if it is UTF-8; else `fixed`, a copy in which U+FFFD stands for each maximal part that is none: as
// Unicode recommends (3.9), and as Python and Rust do.
std::string_view valid_utf8(std::string_view text, std::string& fixed);
bool is_utf8(std::string_view text);
bool is_ascii(std::string_view text);

// The character at `at` of UTF-8, which is moved behind it; at < text.size().
char32_t next_character(std::string_view text, std::size_t& at);
// The character that ends at `end`, which is moved before it; end > 0.
char32_t previous_character(std::string_view text, std::size_t& end);
void append_character(char32_t c, std::string& text);

bool is_white_space(char32_t c);  // property White_Space
bool is_letter(char32_t c);
bool is_word(char32_t c);  // letters, marks, digits, connectors, joiners: \w of Rust

enum class NormalForm { kC, kD, kKC, kKD };
// `text`, or `changed` with its normal form.
std::string_view normalized(std::string_view text, NormalForm form, std::string& changed);

// The alphabet of byte-level vocabularies: each byte is a printable character, itself or, for the 68 that do
// not print, U+0100 and up in their order.
char32_t character_of_byte(unsigned char byte);
// The bytes that a token in that alphabet stands for; nothing if it has another character.
std::optional<std::string> bytes_of_alphabet(std::string_view token);

}  // namespace jevons
