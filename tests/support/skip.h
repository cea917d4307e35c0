// A case that cannot be run here says why, and the test program ends with 77, which ctest shows as skipped,
// unless another of its cases failed.
#pragma once

#include <string>

namespace jevons::test {

// Prints "skipped: <reason>".
void skip_case(const std::string& reason);
// 77 if `code` is 0 and a case was skipped, else `code`.
int with_skips(int code);

}  // namespace jevons::test
