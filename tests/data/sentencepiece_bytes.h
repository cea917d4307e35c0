// A small SentencePiece model, byte by byte: fields of its protobuf, each a tag, a length and that much text.
#pragma once

#include <string>

namespace jevons::test {

inline std::string field(int number, const std::string& text) {
  return std::string(1, static_cast<char>(number << 3 | 2)) + static_cast<char>(text.size()) + text;
}

// type: 1 of text, 2 unknown, 3 control, 4 the user's, 5 not used, 6 a byte.
inline std::string piece(const std::string& text, float score, char type) {
  const std::string bytes(reinterpret_cast<const char*>(&score), sizeof(score));
  return field(1, field(1, text) + "\x15" + bytes + "\x18" + type);
}

inline std::string small_pieces() {
  return piece("<unk>", 0, 2) + piece("<s>", 0, 3) + piece("</s>", 0, 3) + piece("<0x41>", 0, 6) +
         piece("a", -9, 1) + piece("b", -9, 1) + piece("c", -9, 1) + piece("\u2581", -9, 1) +
         // "bc" has the lower id and the lower score: "ab" is joined first.
         piece("bc", -3, 1) + piece("ab", -2, 1) + piece("\u2581a", -4, 1) + piece("[x]", 0, 4);
}

// What the trainer says: byte-pair encoding, with byte fallback.
inline std::string byte_pairs() {
  return field(2, "\x18\x02\x98\x02\x01");
}
// The identity, which keeps blanks.
inline std::string plain_normalizer() {
  return field(3, std::string("\x18\x01\x20\x00", 4));
}

inline std::string small_sentencepiece() {
  return small_pieces() + byte_pairs() + plain_normalizer();
}

}  // namespace jevons::test
