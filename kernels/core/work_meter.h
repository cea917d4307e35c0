// Counts what the kernels and communicators were asked to do: FLOPs, bytes of memory traffic, calls, per
// kind. Facades record; nothing here measures time. One meter per worker.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace jevons {

enum class WorkKind : std::uint8_t { kGemm, kGroupedGemm, kAttention, kRow, kOptimizer, kWire };
inline constexpr std::size_t kNumWorkKinds = 6;
const char* name_of(WorkKind kind);

class WorkMeter {
 public:
  struct Entry {
    double flops = 0;  // multiply and add count as two
    double bytes = 0;  // read + written once each, or bytes on the wire
    std::int64_t calls = 0;
  };
  void add(WorkKind kind, double flops, double bytes) {
    Entry& e = entries_[static_cast<std::size_t>(kind)];
    e.flops += flops, e.bytes += bytes, ++e.calls;
  }
  const Entry& operator[](WorkKind kind) const { return entries_[static_cast<std::size_t>(kind)]; }
  double total_flops() const {
    double sum = 0;
    for (const Entry& e : entries_) sum += e.flops;
    return sum;
  }
  void reset() { entries_ = {}; }

 private:
  std::array<Entry, kNumWorkKinds> entries_{};
};

}  // namespace jevons
