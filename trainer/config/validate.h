// Rules that tie several options together. Each mistake is reported at the place where one of its options was
// given.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "trainer/config/findings.h"

namespace jevons {

namespace schema {
class Run;
}

// Puts the value that an absent one stands for into options whose default depends on others: num_kv_heads,
// head_dim, name, run_dir. `source` is the file's name.
void resolve_defaults(schema::Run& run, const std::string& source);

// Of budget.warn_at: "0.5 0.8"; nothing unless every word is a number above 0 and at most 1.
std::optional<std::vector<double>> parse_shares(const std::string& text);

// What holds on any number of workers; `source` stands in for the place of options that keep their defaults.
void check_options_together(const schema::Run& run, const Place& source, Findings& findings);

}  // namespace jevons
