// Numbers of tiny training runs as tests/golden/<family>_<precision> keeps them: a section for each engine
// and model, a column for each layout.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace jevons::test {

// Of one model on one layout.
struct Numbers {
  std::vector<double> losses;                    // of steps 1, 2, ...
  double grad_norm = 0;                          // of step 1
  double validation = 0;                         // loss after the last step
  std::map<std::string, std::string> gradients;  // of step 1: hash by weight; "*" stands for all experts
  std::string state;                             // hash of weights, moments and biases after the last step
  bool operator==(const Numbers&) const = default;
};

struct Section {
  std::string engine, model;
  std::vector<std::pair<std::string, Numbers>> layouts;
};

// The sections of a file; none if there is no file. Throws Error(kData) naming the line that is not
// understood.
std::vector<Section> read_sections(const std::string& path);
void write_sections(const std::string& path, const std::vector<Section>& sections);

// What tells `now` from `recorded`, in words, one line for each kind of number; empty if nothing does.
std::vector<std::string> differences(const Numbers& recorded, const Numbers& now);

}  // namespace jevons::test
