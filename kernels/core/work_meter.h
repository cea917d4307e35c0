// What the kernels and communicators are asked to do: each facade states its calls to whoever listens.
// Nothing here measures time.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace jevons {

enum class WorkKind : std::uint8_t { kGemm, kGroupedGemm, kAttention, kRow, kOptimizer, kWire };
inline constexpr std::size_t kNumWorkKinds = 6;
const char* name_of(WorkKind kind);

// A size that the cost of a call depends on, under its name: {"rows", 4096}.
struct WorkSize {
  const char* name = nullptr;
  std::int64_t value = 0;
};
// Those of one call, in the facade's order; the first without a name ends them.
using WorkSizes = std::array<WorkSize, 8>;

// One call of an op or a collective.
struct WorkCall {
  WorkKind kind = WorkKind::kRow;
  const char* op = "";          // "linear_forward", "all_gather"
  std::string_view dtype = "";  // of a product or an attention: of what is computed with
  WorkSizes sizes{};            // of a product or an attention; rows are told by their bytes
  std::string_view group = "";  // of a collective: name and size of its communicator
  int ranks = 1;
  double flops = 0;  // multiply and add count as two
  double bytes = 0;  // read + written once each, or bytes on the wire that leave this rank
};

class WorkListener {
 public:
  virtual ~WorkListener() = default;
  // `call` and what it refers to lasts for this call only.
  virtual void on(const WorkCall& call) = 0;
};

// Sums by kind.
class WorkMeter final : public WorkListener {
 public:
  struct Entry {
    double flops = 0, bytes = 0;
    std::int64_t calls = 0;
  };
  void on(const WorkCall& call) override {
    Entry& e = entries_[static_cast<std::size_t>(call.kind)];
    e.flops += call.flops, e.bytes += call.bytes, ++e.calls;
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
