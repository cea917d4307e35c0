// The weights of a Hugging Face folder under the names of ours, in fp32, whatever the type in the files:
// BF16, F16, F32, and F8_E4M3 times a scale for each block of rows and columns, which may lie in another
// file. Each read takes the rows that it needs: memory is that of the wanted boxes and of one chunk.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "trainer/hf/hf_config.h"
#include "trainer/hf/shards.h"
#include "trainer/io/tensor_source.h"

namespace jevons {

class HfSource final : public TensorSource {
 public:
  // Throws Error(kData) naming file and tensor: one that the model needs is missing or has another shape or a
  // type that is no weight's, or there is one that it has no place for.
  HfSource(const std::string& directory, const HfConfig& config);
  ~HfSource() override;

  const std::vector<TensorEntry>& tensors() const override { return entries_; }
  bool has(const std::string& name) const override { return by_name_.contains(name); }
  // Also throws for elements and scales that are not finite.
  void read(const std::vector<TensorBox>& boxes) const override;

  // A folder whose embeddings are tied may hold a head too, which must be the same. Reads both; throws
  // Error(kData) if they differ.
  void check_tied_head() const;

 private:
  struct Stored {
    std::string name;  // ours
    const ShardTensor* tensor = nullptr;
    const ShardTensor* scale = nullptr;  // null: none
    RotaryRows halves = {};              // that become neighbours
  };
  class Reader;
  Stored find(const WeightPlace& place) const;
  void check_no_others(const std::vector<WeightPlace>& places) const;

  Shards shards_;
  HfConfig config_;
  std::vector<TensorEntry> entries_;
  std::map<std::string, Stored> by_name_;
};

}  // namespace jevons
