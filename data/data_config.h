// What a run reads, as plain data. trainer/config fills it from YAML.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace jevons {

struct DataSource {
  static constexpr double kBySize = -1;  // weight: the number of its tokens
  std::string path;   // prefix of a .bin/.idx pair, an llm.c .bin file, or a pattern of such: one source
  double weight = 1;  // share of the blend; weights are normalised. Of a list all are by size or none
  bool operator==(const DataSource&) const = default;
};

struct DataConfig {
  std::vector<DataSource> train;
  std::vector<DataSource> validation;  // empty: the held-out tail of every train source
  double validation_fraction = 0.01;   // size of that tail of every file, in tokens; 0 = no validation
  std::int64_t seq_len = 0;            // copied from the model
  std::uint64_t seed = 0;
  bool document_mask = false;  // attention and loss do not cross document borders
  bool allow_change = false;   // a resumed run may read other files than it did before
  bool operator==(const DataConfig&) const = default;
};

}  // namespace jevons
