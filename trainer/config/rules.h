// Rules between options, as sections state them of their structs.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "trainer/config/findings.h"

namespace jevons {

class Rules {
 public:
  explicit Rules(Findings& findings) : findings_(findings) {}

  // A mistake in the first of `keys` unless `holds()`. The rule is not asked where another mistake was found
  // in one of the keys, whose value it does not know then.
  template <class F, class... Args>
  void require(const std::vector<std::string>& keys, F holds, fmt::format_string<Args...> format,
               Args&&... args) {
    if (!are_good(keys) || holds()) return;
    findings_.add_for(keys.front(), fmt::format(format, std::forward<Args>(args)...));
  }
  bool was_given(const std::string& key) const { return findings_.was_given(key); }
  bool are_good(const std::vector<std::string>& keys) const {
    return std::all_of(keys.begin(), keys.end(),
                       [&](const std::string& key) { return findings_.is_good(key); });
  }

 private:
  Findings& findings_;
};

}  // namespace jevons
