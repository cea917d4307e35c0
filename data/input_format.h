// What an input of `jevons data prepare` is: text, JSON, or nothing that it reads.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace jevons {

enum class InputFormat {
  kAuto,   // by name and content
  kText,   // documents as they stand
  kJsonl,  // one JSON object per line
  kJson    // an array of objects, or objects one after another
};

// The format of an input, of which `head` is the beginning: `head_bytes` of text, or all of it. `wanted`, if
// it is not kAuto, decides between text and JSON. Throws Error(kData), naming the input and what to do, for
// what cannot be read as text, and for JSON whose name says text unless text is wanted.
inline constexpr std::size_t kHeadBytes = std::size_t{64} << 10;
struct InputSample {
  const std::string& name;       // for messages
  const std::string& text_name;  // without .gz or .zst
  std::string_view head;
};
InputFormat recognise_format(const InputSample& input, InputFormat wanted);

// Whether text with so many NUL bytes is no text. NULs alone are an empty text.
bool too_many_nuls(std::uint64_t nuls, std::uint64_t bytes);
[[noreturn]] void refuse_binary(const std::string& name, std::uint64_t nuls, std::uint64_t bytes);

bool ends_with_any_case(std::string_view text, std::string_view ending);

}  // namespace jevons
