#include "data/tokenizer.h"

#include <algorithm>
#include <iterator>

#include "kernels/core/error.h"

namespace jevons {

void ByteTokenizer::encode(std::string_view text, std::vector<std::int32_t>& ids) const {
  const std::size_t before = ids.size();
  ids.resize(before + text.size());
  const auto begin = ids.begin() + static_cast<std::ptrdiff_t>(before);
  std::transform(text.begin(), text.end(), begin, [](char c) { return static_cast<unsigned char>(c); });
  if (text.find('\0') != std::string_view::npos) ids.erase(std::remove(begin, ids.end(), 0), ids.end());
}

std::string ByteTokenizer::decode(std::span<const std::int32_t> ids) const {
  std::string text;
  text.reserve(ids.size());
  for (const std::int32_t id : ids) {
    ENSURE(id >= 0 && id < 256, "token id {} is not a byte", id);
    if (id != separator()) text.push_back(static_cast<char>(id));
  }
  return text;
}

std::unique_ptr<Tokenizer> make_tokenizer(std::string_view name) {
  if (name != "byte") fail(ExitCode::kUsage, "unknown tokenizer '{}'; there is: byte", name);
  return std::make_unique<ByteTokenizer>();
}

}  // namespace jevons
