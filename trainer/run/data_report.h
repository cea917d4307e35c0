// What a run is about to read, in words.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/data_loader.h"

namespace jevons {

struct DataReport {
  std::vector<std::string> lines;     // one per source: its tokens, its samples in this run, its epochs
  std::vector<std::string> warnings;  // sources that give no validation sample
};

// `train_samples`: of the whole run, what is done included. `eval_samples`: limit of one validation.
DataReport describe_data(const DataLoader& loader, std::uint64_t train_samples, std::int64_t eval_samples);

// The train sources with shares, files and tokens as they came out, for a run's passport; one a line.
std::string passport_of_sources(const DataLoader& loader);

}  // namespace jevons
