// NumPy's .npy files of plain numbers in C order, little-endian. Source:
// https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace jevons {

inline constexpr std::string_view kNpyMagic = "\x93NUMPY";

struct NpyHeader {
  std::string descr;                // "<f4": order, kind and bytes of an element
  std::vector<std::int64_t> shape;  // checked: it fills the file exactly
  std::uint64_t data_begin = 0;

  std::size_t element_bytes() const { return static_cast<std::size_t>(descr[2] - '0'); }
};

// `start`: the file's first bytes, at least its header. Throws Error(kData) for anything else than numbers of
// 1, 2, 4 or 8 bytes that fill the rest of the file.
NpyHeader parse_npy_header(std::span<const std::byte> start, std::uint64_t file_size,
                           const std::string& path);

// As many bytes as parse_npy_header may need.
inline constexpr std::size_t kMostNpyHeader = 1 << 16;

// Padded so that the data start at a multiple of 64 bytes.
std::string format_npy_header(const std::string& descr, std::span<const std::int64_t> shape);

}  // namespace jevons
