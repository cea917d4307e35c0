// Warp operations of CUDA: each is a meeting of the lanes in `mask` that have not ended, all at the same
// line.
#pragma once

#include "device_language.h"

namespace emulation {

enum class WarpOp : unsigned { kShuffle, kVote, kSync };

// What every lane brought to a meeting, and which lanes took part.
struct Meeting {
  const std::uint64_t* value;
  std::uint32_t lanes;
};
Meeting meet(WarpOp op, std::uint32_t mask, std::uint64_t value, Place place);
[[noreturn]] void device_error(const char* what, Place place);

// Reads the engine's own memory, which is none of the checker's business.
#define EMULATION_UNCHECKED __attribute__((no_sanitize("thread")))

template <class T>
EMULATION_UNCHECKED T shuffle(std::uint32_t mask, T value, int source, Place place) {
  static_assert(sizeof(T) <= 8 && std::is_trivially_copyable_v<T>);
  std::uint64_t word = 0;
  std::memcpy(&word, &value, sizeof value);
  const Meeting meeting = meet(WarpOp::kShuffle, mask, word, place);
  if ((meeting.lanes >> source & 1) == 0) device_error("a shuffle reads a lane that took no part", place);
  std::memcpy(&value, &meeting.value[source], sizeof value);
  return value;
}

EMULATION_UNCHECKED inline unsigned ballot(std::uint32_t mask, bool vote, Place place) {
  const Meeting meeting = meet(WarpOp::kVote, mask, vote, place);
  unsigned votes = 0;
  for (int lane = 0; lane < 32; ++lane) {
    if ((meeting.lanes >> lane & 1) != 0 && meeting.value[lane] != 0) votes |= 1u << lane;
  }
  return votes;
}

template <class T, class F>
EMULATION_UNCHECKED T reduce(std::uint32_t mask, T value, F join, Place place) {
  const Meeting meeting = meet(WarpOp::kShuffle, mask, static_cast<std::uint64_t>(value), place);
  T result = value;
  for (int lane = 0; lane < 32; ++lane) {
    const bool other = lane != static_cast<int>(thread_view->lane) && (meeting.lanes >> lane & 1) != 0;
    if (other) result = join(result, static_cast<T>(meeting.value[lane]));
  }
  return result;
}

EMULATION_UNCHECKED inline int lane_id() {
  return static_cast<int>(thread_view->lane);
}

}  // namespace emulation

#define EMULATION_PLACE emulation::Place place = emulation::Place::here()

inline void __syncwarp(unsigned mask = ~0u, EMULATION_PLACE) {
  emulation::meet(emulation::WarpOp::kSync, mask, 0, place);
}

// Lanes are seen in segments of `width`; a source outside the own segment is the own lane.
template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, EMULATION_PLACE) {
  return emulation::shuffle(mask, value, (emulation::lane_id() & ~(width - 1)) + (source & (width - 1)),
                            place);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, EMULATION_PLACE) {
  const int lane = emulation::lane_id(), end = (lane & ~(width - 1)) + width, source = lane ^ bits;
  return emulation::shuffle(mask, value, source < end ? source : lane, place);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, EMULATION_PLACE) {
  const int lane = emulation::lane_id(), source = lane - static_cast<int>(delta);
  return emulation::shuffle(mask, value, source >= (lane & ~(width - 1)) ? source : lane, place);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, EMULATION_PLACE) {
  const int lane = emulation::lane_id(), end = (lane & ~(width - 1)) + width,
            source = lane + static_cast<int>(delta);
  return emulation::shuffle(mask, value, source < end ? source : lane, place);
}

inline unsigned __ballot_sync(unsigned mask, int vote, EMULATION_PLACE) {
  return emulation::ballot(mask, vote != 0, place);
}
inline int __any_sync(unsigned mask, int vote, EMULATION_PLACE) {
  return emulation::ballot(mask, vote != 0, place) != 0;
}
inline int __all_sync(unsigned mask, int vote, EMULATION_PLACE) {
  return emulation::ballot(mask, vote == 0, place) == 0;
}

inline unsigned __reduce_add_sync(unsigned mask, unsigned value, EMULATION_PLACE) {
  return emulation::reduce(
      mask, value, [](unsigned a, unsigned b) { return a + b; }, place);
}
inline unsigned __reduce_max_sync(unsigned mask, unsigned value, EMULATION_PLACE) {
  return emulation::reduce(
      mask, value, [](unsigned a, unsigned b) { return a > b ? a : b; }, place);
}
inline unsigned __reduce_min_sync(unsigned mask, unsigned value, EMULATION_PLACE) {
  return emulation::reduce(
      mask, value, [](unsigned a, unsigned b) { return a < b ? a : b; }, place);
}
