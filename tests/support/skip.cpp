#include "tests/support/skip.h"

#include <cstdio>

namespace jevons::test {
namespace {

bool some_case_was_skipped = false;

}  // namespace

void skip_case(const std::string& reason) {
  some_case_was_skipped = true;
  std::printf("skipped: %s\n", reason.c_str());
}

int with_skips(int code) {
  return code == 0 && some_case_was_skipped ? 77 : code;
}

}  // namespace jevons::test
