#include "data/decoder.h"

#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <new>

#include "kernels/core/error.h"

namespace jevons {
namespace {

using In = std::span<const std::byte>;
using Out = std::span<std::byte>;

class Copy final : public Decoder {
 public:
  std::string step(In& in, Out& out) override {
    const std::size_t size = std::min(in.size(), out.size());
    std::memcpy(out.data(), in.data(), size);
    in = in.subspan(size), out = out.subspan(size);
    return "";
  }
  bool complete() const override { return true; }
};

// Members follow each other (RFC 1952, section 2.2); zeros behind them are padding, as of tapes.
class Gzip final : public Decoder {
 public:
  Gzip() {
    constexpr int kLargestWindow = 15, kGzipOnly = 16;
    if (inflateInit2(&stream_, kLargestWindow + kGzipOnly) != Z_OK) throw std::bad_alloc();
  }
  ~Gzip() override { inflateEnd(&stream_); }
  Gzip(const Gzip&) = delete;
  Gzip& operator=(const Gzip&) = delete;

  std::string step(In& in, Out& out) override {
    while (between_members_ && started_ && !in.empty() && in.front() == std::byte{0}) in = in.subspan(1);
    if (in.empty() && between_members_) return "";
    started_ = true, between_members_ = false;
    const auto cut_to_uint = [](std::size_t n) {
      return static_cast<uInt>(std::min<std::size_t>(n, std::numeric_limits<uInt>::max()));
    };
    const uInt had_in = cut_to_uint(in.size()), had_out = cut_to_uint(out.size());
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(in.data()));
    stream_.next_out = reinterpret_cast<Bytef*>(out.data());
    stream_.avail_in = had_in, stream_.avail_out = had_out;
    const int result = inflate(&stream_, Z_NO_FLUSH);
    in = in.subspan(had_in - stream_.avail_in), out = out.subspan(had_out - stream_.avail_out);
    if (result == Z_STREAM_END) {
      inflateReset(&stream_);
      between_members_ = true;
    } else if (result == Z_MEM_ERROR) {
      throw std::bad_alloc();
    } else if (result != Z_OK && result != Z_BUF_ERROR) {  // the latter: no progress without more bytes
      return stream_.msg != nullptr ? stream_.msg : "not what gzip writes";
    }
    return "";
  }
  bool complete() const override { return between_members_; }

 private:
  z_stream stream_{};
  bool started_ = false, between_members_ = true;
};

class Zstandard final : public Decoder {
 public:
  Zstandard() : stream_(ZSTD_createDStream()) {
    if (stream_ == nullptr) throw std::bad_alloc();
    // The tool's --long=31 needs 2 GiB of history; such files are about.
    const ZSTD_bounds bounds = ZSTD_dParam_getBounds(ZSTD_d_windowLogMax);
    ZSTD_DCtx_setParameter(stream_, ZSTD_d_windowLogMax, bounds.upperBound);
  }
  ~Zstandard() override { ZSTD_freeDStream(stream_); }
  Zstandard(const Zstandard&) = delete;
  Zstandard& operator=(const Zstandard&) = delete;

  std::string step(In& in, Out& out) override {
    if (in.empty() && complete()) return "";
    ZSTD_inBuffer from{in.data(), in.size(), 0};
    ZSTD_outBuffer to{out.data(), out.size(), 0};
    expected_ = ZSTD_decompressStream(stream_, &to, &from);
    in = in.subspan(from.pos), out = out.subspan(to.pos);
    return ZSTD_isError(expected_) != 0 ? ZSTD_getErrorName(expected_) : "";
  }
  bool complete() const override { return expected_ == 0; }

 private:
  ZSTD_DStream* stream_;
  std::size_t expected_ = 0;  // bytes that the frame still needs, about; 0 between frames
};

bool begins_with(std::string_view head, std::string_view magic) {
  return head.substr(0, magic.size()) == magic;
}

}  // namespace

Compression compression_of(std::string_view head) {
  if (begins_with(head, "\x1f\x8b")) return Compression::kGzip;
  if (begins_with(head, "\x28\xb5\x2f\xfd")) return Compression::kZstd;
  // A frame that is to be skipped (RFC 8878, section 3.1.2), as pzstd puts first.
  const bool skippable = head.size() >= 4 && (head[0] & 0xf0) == 0x50 && head.substr(1, 3) == "\x2a\x4d\x18";
  return skippable ? Compression::kZstd : Compression::kNone;
}

std::string_view name_of(Compression compression) {
  switch (compression) {
    case Compression::kGzip:
      return "gzip";
    case Compression::kZstd:
      return "Zstandard";
    case Compression::kNone:
      break;
  }
  return "uncompressed";
}

std::unique_ptr<Decoder> make_decoder(Compression compression) {
  switch (compression) {
    case Compression::kGzip:
      return std::make_unique<Gzip>();
    case Compression::kZstd:
      return std::make_unique<Zstandard>();
    case Compression::kNone:
      break;
  }
  return std::make_unique<Copy>();
}

}  // namespace jevons
