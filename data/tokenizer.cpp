#include "data/tokenizer.h"

#include <algorithm>
#include <array>
#include <iterator>

#include "kernels/core/error.h"

namespace jevons {
namespace {

class ByteEncoder final : public Encoder {
 public:
  void encode(std::string_view text, TextPart, std::vector<std::int32_t>& ids) override {
    const std::size_t before = ids.size();
    ids.resize(before + text.size());
    const auto begin = ids.begin() + static_cast<std::ptrdiff_t>(before);
    std::transform(text.begin(), text.end(), begin, [](char c) { return static_cast<unsigned char>(c); });
    if (text.find('\0') != std::string_view::npos) ids.erase(std::remove(begin, ids.end(), 0), ids.end());
  }
};

const std::array<char, 256>& all_bytes() {
  static const std::array<char, 256> kBytes = [] {
    std::array<char, 256> bytes{};
    for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i);
    return bytes;
  }();
  return kBytes;
}

}  // namespace

std::vector<std::int32_t> Tokenizer::encode(std::string_view text) const {
  std::vector<std::int32_t> ids;
  encoder(Specials::kAreText)->encode(text, TextPart::kBeginning, ids);
  return ids;
}

const std::string& ByteTokenizer::name() const {
  static const std::string kName = kByteTokenizer;
  return kName;
}

// There is one of them.
std::string ByteTokenizer::hash() const {
  return "0000000000000100";
}

std::unique_ptr<Encoder> ByteTokenizer::encoder(Specials) const {
  return std::make_unique<ByteEncoder>();
}

std::string_view ByteTokenizer::bytes_of(std::int32_t id) const {
  ENSURE(id >= 0 && id < 256, "token id {} is not a byte", id);
  return {all_bytes().data() + id, id == separator() ? 0u : 1u};
}

std::string ByteTokenizer::decode(std::span<const std::int32_t> ids) const {
  std::string text;
  text.reserve(ids.size());
  for (const std::int32_t id : ids) text += bytes_of(id);
  return text;
}

}  // namespace jevons
