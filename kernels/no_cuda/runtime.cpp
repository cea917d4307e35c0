// The GPU back end of a program that has none.
#include "kernels/core/device.h"
#include "kernels/core/device_runtime.h"
#include "kernels/core/error.h"

namespace jevons::cuda {
namespace {

constexpr const char* kAbsent = "this build has no CUDA back end";

[[noreturn]] void absent() {
  fail(ExitCode::kFailure, "{}", kAbsent);
}

}  // namespace

void fail_for_memory(std::size_t) {
  absent();
}
void* allocate(std::size_t) {
  absent();
}
void deallocate(void*) noexcept {}
void* allocate_async(void*, std::size_t) {
  absent();
}
void deallocate_async(void*, void*) noexcept {}
std::size_t mapping_granularity() {
  absent();
}
void* reserve_addresses(std::size_t) {
  absent();
}
bool map_memory(void*, std::size_t) {
  absent();
}
void release_addresses(void*, void*, std::size_t, std::span<const std::size_t>) noexcept {}
void* allocate_pinned(std::size_t) {
  absent();
}
void deallocate_pinned(void*) noexcept {}

void begin_range(const char*) noexcept {}
void end_range() noexcept {}

void* create_stream(StreamPriority) {
  absent();
}
void destroy_stream(void*) noexcept {}
void synchronise_stream(void*) {
  absent();
}
bool is_idle(void*) {
  absent();
}
void* create_event() {
  absent();
}
void destroy_event(void*) noexcept {}
void record_event(void*, void*) {
  absent();
}
void wait_event(void*, void*) {
  absent();
}
void synchronise_event(void*) {
  absent();
}

void copy_async(void*, void*, const void*, std::size_t, CopyKind) {
  absent();
}
void fill_async(void*, void*, std::uint8_t, std::size_t) {
  absent();
}

}  // namespace jevons::cuda

namespace jevons::device {

Availability availability() noexcept {
  return {0, cuda::kAbsent};
}
std::string name(int) {
  cuda::absent();
}
std::string obstacle(int) {
  cuda::absent();
}
void select(int) {
  cuda::absent();
}
MemoryInfo memory_info() {
  cuda::absent();
}
Facts facts() {
  cuda::absent();
}

}  // namespace jevons::device
