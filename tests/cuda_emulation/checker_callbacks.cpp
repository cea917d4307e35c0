// The calls that -fsanitize=thread puts into kernels, answered by the checker; libtsan is not linked.
#include <cstdint>

#include "checker.h"

using emulation::Access;
using emulation::check_access;

#define CODE __builtin_return_address(0)

#define READS_AND_WRITES(bytes)                   \
  void __tsan_read##bytes(void* p) {              \
    check_access(p, bytes, Access::kRead, CODE);  \
  }                                               \
  void __tsan_write##bytes(void* p) {             \
    check_access(p, bytes, Access::kWrite, CODE); \
  }                                               \
  void __tsan_unaligned_read##bytes(void* p) {    \
    check_access(p, bytes, Access::kRead, CODE);  \
  }                                               \
  void __tsan_unaligned_write##bytes(void* p) {   \
    check_access(p, bytes, Access::kWrite, CODE); \
  }

// Fibers switch at barriers only, so that plain operations are atomic here.
#define ATOMICS(bits, Word)                                                                            \
  Word __tsan_atomic##bits##_load(const volatile Word* p, int) {                                       \
    check_access(const_cast<const Word*>(p), sizeof(Word), Access::kAtomic, CODE);                     \
    return *p;                                                                                         \
  }                                                                                                    \
  void __tsan_atomic##bits##_store(volatile Word* p, Word value, int) {                                \
    check_access(const_cast<const Word*>(p), sizeof(Word), Access::kAtomic, CODE);                     \
    *p = value;                                                                                        \
  }                                                                                                    \
  int __tsan_atomic##bits##_compare_exchange_strong(volatile Word* p, Word* expected, Word value, int, \
                                                    int) {                                             \
    check_access(const_cast<const Word*>(p), sizeof(Word), Access::kAtomic, CODE);                     \
    const bool equal = *p == *expected;                                                                \
    if (equal)                                                                                         \
      *p = value;                                                                                      \
    else                                                                                               \
      *expected = *p;                                                                                  \
    return equal;                                                                                      \
  }

extern "C" {
void __tsan_init() {
  emulation::turn_checker_on();
}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_read_range(void* p, unsigned long bytes) {
  check_access(p, bytes, Access::kRead, CODE);
}
void __tsan_write_range(void* p, unsigned long bytes) {
  check_access(p, bytes, Access::kWrite, CODE);
}
// clang-format off
READS_AND_WRITES(1)
READS_AND_WRITES(2)
READS_AND_WRITES(4)
READS_AND_WRITES(8)
READS_AND_WRITES(16)
ATOMICS(16, std::uint16_t)
ATOMICS(32, std::uint32_t)
ATOMICS(64, std::uint64_t)
// clang-format on
}
