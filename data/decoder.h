// Compressed bytes into plain ones, in small steps: gzip through zlib, Zstandard through libzstd, and bytes
// that are not compressed.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace jevons {

enum class Compression { kNone, kGzip, kZstd };

// By its first bytes.
Compression compression_of(std::string_view head);
// "gzip", "Zstandard".
std::string_view name_of(Compression compression);

class Decoder {
 public:
  virtual ~Decoder() = default;
  // Takes bytes from the front of `in`, writes to the front of `out`, and cuts both accordingly. With no `in`
  // it hands out what it still holds. Returns what is wrong with the bytes, or nothing.
  virtual std::string step(std::span<const std::byte>& in, std::span<std::byte>& out) = 0;
  // Whether the bytes may end here.
  virtual bool complete() const = 0;
};

std::unique_ptr<Decoder> make_decoder(Compression compression);

}  // namespace jevons
