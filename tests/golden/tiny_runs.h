// The tiny runs whose numbers are recorded: between them they use all that the trainer has.
#pragma once

#include <string>
#include <vector>

#include "tests/golden/numbers.h"
#include "trainer/config/run_config.h"

namespace jevons::test {

struct TinyRun {
  std::string model;                 // its name in the file
  std::vector<std::string> options;  // beside those that all runs have
  std::vector<Layout> layouts;
};

// `family`: "dense" or "moe".
std::vector<TinyRun> tiny_runs(const std::string& family);

// "1", "dp2", "dp2,ep2"
std::string short_name(const Layout& layout);

// Ten steps of AdamW on as many ranks as the layout has, and step 1 once more for its gradients. `more`:
// further options.
Numbers numbers_of(const TinyRun& run, const Layout& layout, const std::vector<std::string>& more);

// What the bits of f32 or bf16 runs depend on beside the code: who multiplies, and how the compiler
// contracts products and sums.
std::string engine_key(Precision precision);

}  // namespace jevons::test
