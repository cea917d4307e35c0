#include "data/token_file.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <limits>
#include <memory>
#include <type_traits>

#include "kernels/core/error.h"

namespace jevons {
namespace {

namespace fs = std::filesystem;

// Source: llm.c, dev/data/data_common.py.
constexpr std::size_t kLlmcHeaderBytes = 256 * sizeof(std::int32_t);
constexpr std::int32_t kLlmcMagicU16 = 20240520, kLlmcVersionU16 = 1;  // GPT-2 vocabulary
constexpr std::int32_t kLlmcMagicU32 = 20240801, kLlmcVersionU32 = 7;  // Llama 3 vocabulary

std::string without_suffix(const std::string& path) {
  for (const char* suffix : {".bin", ".idx"})
    if (path.ends_with(suffix)) return path.substr(0, path.size() - std::strlen(suffix));
  return path;
}

// For messages: a relative path is looked up in the directory where the program was started.
std::string absolute(const std::string& path) {
  std::error_code ignored;
  const fs::path whole = fs::absolute(path, ignored);
  return whole.empty() ? path : whole.string();
}

std::string bin_path_of(const std::string& path) {
  const std::string prefix = without_suffix(path);
  if (fs::exists(prefix + ".idx")) {
    if (fs::exists(prefix + ".bin")) return prefix + ".bin";
    fail(ExitCode::kData, "'{0}.idx' is there, but '{0}.bin' is missing", absolute(prefix));
  }
  if (fs::exists(prefix + ".bin") && !fs::is_regular_file(path)) return prefix + ".bin";
  if (fs::is_directory(path)) {
    fail(ExitCode::kData,
         "'{}' is not a regular file but a directory; a pattern takes the token files in it: '{}'",
         absolute(path), (fs::path(path) / "*").string());
  }
  if (fs::exists(path)) return path;
  fail(ExitCode::kData, "no token file '{0}': there is neither '{1}.idx' nor '{1}.bin'{2}", path,
       absolute(prefix), prefix == path ? fmt::format(" nor '{}'", absolute(path)) : "");
}

// An llm.c file is known by its first four bytes; here they are none.
[[noreturn]] void fail_as_no_token_file(const std::string& path, std::string_view why) {
  fail(ExitCode::kData,
       "{}: offset 0: there is no .idx beside it, and {}; jevons data prepare makes token files of text",
       absolute(path), why);
}

// Copies ids to int32; returns the position of the first one outside [0, vocab_size), or out.size().
template <class T>
std::size_t convert(const std::byte* from, std::span<std::int32_t> out, std::int64_t vocab_size) {
  const auto id_at = [from](std::size_t i) {
    T id;
    std::memcpy(&id, from + i * sizeof(T), sizeof(T));
    return id;
  };
  bool bad = false;
  for (std::size_t i = 0; i < out.size(); ++i) {
    const T id = id_at(i);
    out[i] = static_cast<std::int32_t>(id);
    // Negative ids become huge.
    bad |=
        static_cast<std::uint64_t>(static_cast<std::int64_t>(id)) >= static_cast<std::uint64_t>(vocab_size);
  }
  if (!bad) return out.size();
  std::size_t i = 0;
  while (static_cast<std::int64_t>(id_at(i)) >= 0 && static_cast<std::int64_t>(id_at(i)) < vocab_size) ++i;
  return i;
}

// What a hash reads of a file: all of it, or 64 blocks of 16 KiB from its first to its last byte.
void hash_content(XXH3_state_t* state, std::span<const std::byte> bytes, TokenFile::HashDepth depth) {
  constexpr std::size_t kBlocks = 64, kBlockBytes = std::size_t{16} << 10;
  if (depth == TokenFile::HashDepth::kWhole || bytes.size() <= kBlocks * kBlockBytes) {
    XXH3_64bits_update(state, bytes.data(), bytes.size());
    return;
  }
  const std::size_t last = bytes.size() - kBlockBytes;
  for (std::size_t block = 0; block < kBlocks; ++block) {
    const std::size_t at = last / (kBlocks - 1) * block + last % (kBlocks - 1) * block / (kBlocks - 1);
    XXH3_64bits_update(state, bytes.data() + at, kBlockBytes);
  }
}

}  // namespace

bool token_file_exists(const std::string& path) {
  const std::string prefix = without_suffix(path);
  return fs::exists(path) || fs::exists(prefix + ".bin") || fs::exists(prefix + ".idx");
}

TokenFile::TokenFile(const std::string& path) : bin_(bin_path_of(path)) {
  const std::string idx_path = without_suffix(bin_.path()) + ".idx";
  if (fs::exists(idx_path)) {
    open_pair(idx_path);
  } else {
    open_llmc();
  }
}

void TokenFile::open_pair(const std::string& idx_path) {
  idx_.emplace(idx_path);
  index_ = parse_idx(idx_->bytes(), bin_.bytes().size(), idx_path);
  dtype_ = index_->dtype();
  num_tokens_ = index_->num_tokens();
}

void TokenFile::open_llmc() {
  const std::size_t size = bin_.bytes().size();
  if (size < kLlmcHeaderBytes) {
    fail_as_no_token_file(
        path(), fmt::format("{} bytes cannot hold the header of an llm.c file ({})", size, kLlmcHeaderBytes));
  }
  std::int32_t header[3];  // magic, version, number of tokens
  std::memcpy(header, bin_.bytes().data(), sizeof(header));
  const auto [magic, version, count] = header;
  if (magic != kLlmcMagicU16 && magic != kLlmcMagicU32)
    fail_as_no_token_file(
        path(), fmt::format("magic {} is not llm.c's ({} or {})", magic, kLlmcMagicU16, kLlmcMagicU32));
  const std::int32_t expected = magic == kLlmcMagicU16 ? kLlmcVersionU16 : kLlmcVersionU32;
  if (version != expected)
    fail(ExitCode::kData, "{}: offset 4: version {}, but magic {} goes with {}", path(), version, magic,
         expected);
  if (count < 0) fail(ExitCode::kData, "{}: offset 8: negative token count {}", path(), count);

  dtype_ = magic == kLlmcMagicU16 ? TokenDType::kU16 : TokenDType::kU32;
  const std::size_t needed = kLlmcHeaderBytes + static_cast<std::size_t>(count) * size_of(dtype_);
  if (size != needed)
    fail(ExitCode::kData, "{}: offset 8: {} tokens of {} make {} bytes, but the file has {}{}", path(), count,
         name_of(dtype_), needed, size, size < needed ? " (truncated?)" : "");
  tokens_at_ = kLlmcHeaderBytes;
  num_tokens_ = count;
}

void TokenFile::read(std::int64_t first, std::span<std::int32_t> out, std::int64_t vocab_size) const {
  const auto count = static_cast<std::int64_t>(out.size());
  ENSURE(first >= 0 && first <= num_tokens_ && count <= num_tokens_ - first, "tokens {} + {} of {} in {}",
         first, count, num_tokens_, path());
  ENSURE(vocab_size > 0 && vocab_size <= std::int64_t{1} << 31, "vocabulary of {}", vocab_size);
  with_token_type(dtype_, [&](auto zero) {
    using T = decltype(zero);
    const std::size_t offset = tokens_at_ + static_cast<std::size_t>(first) * sizeof(T);
    const std::byte* from = bin_.bytes().data() + offset;
    const std::size_t bad = convert<T>(from, out, vocab_size);
    if (bad == out.size()) return;
    T id;
    std::memcpy(&id, from + bad * sizeof(T), sizeof(T));
    fail(ExitCode::kData, "{}: offset {}: token {} has id {}, outside the vocabulary of {}", path(),
         offset + bad * sizeof(T), first + static_cast<std::int64_t>(bad), static_cast<std::int64_t>(id),
         vocab_size);
  });
}

void TokenFile::load(std::int64_t first, std::int64_t count) const {
  ENSURE(first >= 0 && first <= num_tokens_ && count >= 0 && count <= num_tokens_ - first,
         "tokens {} + {} of {}", first, count, num_tokens_);
  const std::size_t item = size_of(dtype_);
  bin_.load(tokens_at_ + static_cast<std::size_t>(first) * item, static_cast<std::size_t>(count) * item);
}

std::uint64_t TokenFile::hash(HashDepth depth) const {
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(), &XXH3_freeState);
  XXH3_64bits_reset(state.get());
  const std::uint64_t facts[] = {static_cast<std::uint64_t>(dtype_), static_cast<std::uint64_t>(num_tokens_),
                                 bin_.bytes().size(), idx_ ? idx_->bytes().size() : 0};
  XXH3_64bits_update(state.get(), facts, sizeof(facts));
  hash_content(state.get(), bin_.bytes(), depth);
  if (idx_) hash_content(state.get(), idx_->bytes(), depth);
  return XXH3_64bits_digest(state.get());
}

}  // namespace jevons
