// Encodes and decodes what it is sent, for tokenizer_oracle.py.
// usage: tokenize TOKENIZER text|tokens      how specials count
// In: texts, each a u32 of its bytes and these. Out for each: a u32 of its ids, these as i32, a u32 of the
// bytes that they decode to, and these.
#include <cstdio>
#include <cstring>

#include "data/tokenizer.h"
#include "kernels/core/error.h"

namespace {

bool get(void* to, std::size_t bytes) {
  return std::fread(to, 1, bytes, stdin) == bytes;
}

template <class T>
void put(const T& items) {
  const auto count = static_cast<std::uint32_t>(items.size());
  std::fwrite(&count, sizeof(count), 1, stdout);
  std::fwrite(items.data(), sizeof(items[0]), items.size(), stdout);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return static_cast<int>(jevons::ExitCode::kUsage);
  try {
    const auto tokenizer = jevons::load_tokenizer(argv[1]);
    const bool text = std::strcmp(argv[2], "text") == 0;
    const auto encoder = tokenizer->encoder(text ? jevons::Specials::kAreText : jevons::Specials::kAreTokens);
    std::vector<std::int32_t> ids;
    for (std::uint32_t size = 0; get(&size, sizeof(size));) {
      std::string input(size, '\0');
      if (!get(input.data(), size)) return static_cast<int>(jevons::ExitCode::kData);
      ids.clear();
      encoder->encode(input, jevons::TextPart::kBeginning, ids);
      put(ids);
      put(tokenizer->decode(ids));
    }
  } catch (const jevons::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return static_cast<int>(error.code());
  }
  return 0;
}
