#include "data/token_writer.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "data/token_index.h"
#include "kernels/core/error.h"

namespace jevons {
namespace {

constexpr std::size_t kBatch = 4096;  // sequences per read or write of index arrays

template <class T>
std::span<const std::byte> bytes_of(const T& value) {
  return std::as_bytes(std::span(&value, 1));
}

}  // namespace

TokenWriter::TokenWriter(const std::string& prefix, TokenDType dtype, std::int64_t max_sequence)
    : dtype_(dtype), max_sequence_(max_sequence), bin_(prefix + ".bin"), idx_(prefix + ".idx") {
  ENSURE(dtype != TokenDType::kU32, "Megatron files have no u32");
  ENSURE(max_sequence > 0 && max_sequence <= std::numeric_limits<std::int32_t>::max(),
         "sequences of {} tokens", max_sequence);
  const std::uint64_t version = 1, counted_at_the_end = 0;
  idx_.write(std::as_bytes(std::span(kIdxMagic)));
  idx_.write(bytes_of(version));
  idx_.write(bytes_of(dtype_));
  idx_.write(bytes_of(counted_at_the_end));
  idx_.write(bytes_of(counted_at_the_end));
}

void TokenWriter::append(std::span<const std::int32_t> ids) {
  while (!ids.empty()) {
    if (sequence_tokens_ == max_sequence_) {
      end_sequence();
      continuations_.push_back(num_sequences_);
    }
    const auto room = static_cast<std::size_t>(max_sequence_ - sequence_tokens_);
    const auto part = ids.first(std::min(ids.size(), room));
    narrow_.resize(part.size() * size_of(dtype_));
    with_token_type(dtype_, [&](auto zero) {
      using T = decltype(zero);
      bool fits = true;
      for (std::size_t i = 0; i < part.size(); ++i) {
        const T id = static_cast<T>(part[i]);
        fits &= static_cast<std::int64_t>(id) == part[i];
        std::memcpy(narrow_.data() + i * sizeof(T), &id, sizeof(T));
      }
      ENSURE(fits, "a token id does not fit {}", name_of(dtype_));
    });
    bin_.write(narrow_);
    sequence_tokens_ += static_cast<std::int64_t>(part.size());
    num_tokens_ += static_cast<std::int64_t>(part.size());
    ids = ids.subspan(part.size());
  }
}

// The sizes are the index's first array, so each goes straight to its place.
void TokenWriter::end_sequence() {
  const auto size = static_cast<std::int32_t>(sequence_tokens_);
  idx_.write(bytes_of(size));
  sequence_tokens_ = 0;
  ++num_sequences_;
}

void TokenWriter::end_document() {
  end_sequence();
  ++num_documents_;
}

void TokenWriter::commit() {
  ENSURE(sequence_tokens_ == 0, "the last document was not ended");
  write_pointers();
  write_borders();
  const std::uint64_t counts[] = {static_cast<std::uint64_t>(num_sequences_),
                                  static_cast<std::uint64_t>(num_documents_ + 1)};
  idx_.write_at(kIdxHeaderBytes - sizeof(counts), std::as_bytes(std::span(counts)));
  unlink(idx_.path().c_str());  // an old index must never stand beside the new tokens
  bin_.commit();
  idx_.commit();
}

void TokenWriter::write_pointers() {
  std::int64_t pointer = 0;
  std::vector<std::int32_t> sizes;
  std::vector<std::int64_t> pointers;
  for (std::int64_t done = 0; done < num_sequences_; done += static_cast<std::int64_t>(sizes.size())) {
    sizes.resize(std::min(kBatch, static_cast<std::size_t>(num_sequences_ - done)));
    idx_.read_at(kIdxHeaderBytes + static_cast<std::size_t>(done) * sizeof(std::int32_t),
                 std::as_writable_bytes(std::span(sizes)));
    pointers.clear();
    for (const std::int32_t size : sizes) {
      pointers.push_back(pointer);
      pointer += size * static_cast<std::int64_t>(size_of(dtype_));
    }
    idx_.write(std::as_bytes(std::span(pointers)));
  }
}

// Every sequence but the continuations begins a document; the number of sequences ends the list.
void TokenWriter::write_borders() {
  auto skip = continuations_.begin();
  for (std::int64_t sequence = 0; sequence <= num_sequences_; ++sequence) {
    if (skip != continuations_.end() && *skip == sequence) {
      ++skip;
    } else {
      idx_.write(bytes_of(sequence));
    }
  }
}

}  // namespace jevons
