// The end of a save: files that all ranks have flushed under temporary names become a checkpoint.
#pragma once

#include <filesystem>
#include <string>
#include <utility>

#include "parallel/communicator.h"
#include "trainer/checkpoint/manifest.h"

namespace jevons {

// Removes the file, if it is still there, when a save ends: after a failure nothing takes space on a full
// disk.
class TemporaryFile {
 public:
  explicit TemporaryFile(std::filesystem::path path) : path_(std::move(path)) {}
  ~TemporaryFile();
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

 private:
  std::filesystem::path path_;
};

// Removes the regular files whose name ends in `suffix`.
void remove_leftovers(const std::filesystem::path& directory, const std::string& suffix);

// `part`: what this rank wrote. Takes back a checkpoint that was there before, renames every rank's file,
// then commits the manifest. Collective; AgreedError on all ranks if it fails on one.
void commit_checkpoint(Communicator& world, const std::filesystem::path& directory, const TrainState& state,
                       const Manifest& part);

}  // namespace jevons
