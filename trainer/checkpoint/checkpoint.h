// Sharded checkpoints that any layout can read. One safetensors file per writing rank and a protobuf manifest
// written last: renaming it into place is the commit. The manifest says for every tensor: global shape,
// dtype, and the boxes that make it up (offset, extent, file, byte range, XXH3). Loading intersects boxes.
// Saving: saver.h.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kernels/core/tensor.h"
#include "trainer/io/lineage.h"
#include "trainer/io/tensor_source.h"

namespace jevons {

// What is not a tensor. Everything a resumed run needs to go on to the same bits.
struct TrainState {
  std::int64_t step = 0;               // finished steps
  std::uint64_t consumed_samples = 0;  // position in the data
  std::int64_t consumed_tokens = 0;
  std::int64_t optimizer_step = 0;  // steps that were not skipped
  std::map<std::string, std::string>
      passport;  // config, layout, data fingerprint, versions: for people and checks
  std::vector<double> recent_losses = {};  // that tell a spike, oldest first; empty if none are looked for
  // Place in the order in which the run's directory got its checkpoints; 0: of a program that did not count.
  std::uint64_t sequence = 0;
  Lineage lineage = {};  // of the steps before this one
};

// An opened, committed checkpoint. Each stored box that is touched is read whole and its checksum checked.
class CheckpointReader final : public TensorSource {
 public:
  explicit CheckpointReader(const std::string& path);
  ~CheckpointReader() override;
  const TrainState& state() const;
  const std::vector<TensorEntry>& tensors() const override;
  bool has(const std::string& name) const override;
  void read(const std::vector<TensorBox>& boxes) const override;
  // Reads every byte of every file against its checksum. Throws on the first mismatch.
  void verify() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The committed checkpoint on which the run stands whose checkpoints are in `dir` (Catalog::standing), or
// nothing.
std::optional<std::string> latest_checkpoint(const std::string& dir);

// The checkpoint that a person means by `path`: itself, or the one on which the run stands whose directory,
// or checkpoints/, this is. Throws Error(kData) if there is none.
std::string find_checkpoint(const std::string& path);

}  // namespace jevons
