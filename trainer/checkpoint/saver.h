// Saves checkpoints beside training: a snapshot of the boxes in one set of host buffers, a thread of each
// rank that writes and flushes its file and makes no MPI call, and a commit in which all ranks take part once
// all files are on their disks. At most one save is under way.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "parallel/communicator.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/commit.h"
#include "trainer/checkpoint/rank_file.h"
#include "trainer/checkpoint/snapshot.h"

namespace jevons {

struct SavedCheckpoint {
  std::int64_t step = 0;
  std::string path;
  double bytes = 0;          // of all ranks' files
  double write_seconds = 0;  // of the slowest rank: hashing, writing, flushing
  double disk_seconds = 0;   // of the slowest rank: in write and fsync
};

class CheckpointSaver {
 public:
  // Checkpoints become <dir>/step-XXXXXXXX. `stream`: of the work that makes the boxes' contents, needed for
  // boxes on kCuda; outlives the saver.
  CheckpointSaver(Communicator& world, const std::string& dir, const Stream* stream = nullptr);
  CheckpointSaver(const CheckpointSaver&) = delete;  // its thread knows where it is
  CheckpointSaver& operator=(const CheckpointSaver&) = delete;
  // The destructor waits for the thread; a save that is not committed is dropped.

  // Collective; no save may be under way. The boxes of all ranks must cover every tensor exactly once.
  void begin(const TrainState& state, const std::vector<TensorBox>& boxes, Originals originals);
  bool under_way() const { return written_.valid(); }  // the same on every rank
  // Whether this rank's thread has not finished yet; false when none is under way.
  bool is_writing() const;
  // Collective; a save must be under way. Waits for every rank's file, then makes them a checkpoint. A
  // checkpoint of the same step that was there before is replaced: it stops being one before its files are
  // touched.
  SavedCheckpoint commit();

  // When begin or commit fail on any rank, all throw AgreedError with the message of the lowest failing one;
  // nothing is under way then, temporary files are gone and no manifest is left.

 private:
  Communicator& world_;
  std::filesystem::path dir_;
  const Stream* stream_;
  Snapshot snapshot_;
  TrainState state_;                 // of the save under way
  std::filesystem::path directory_;  // of the save under way
  std::unique_ptr<TemporaryFile> temporary_;
  std::future<RankFile> written_;  // last: its destructor waits for the thread, which uses the others
};

// Makes the contents of a box, which lie in host memory until the next call.
using BoxContents = std::function<Tensor(const TensorBox& box)>;
// Writes and commits `directory`, which exists and has no rank's file, as a checkpoint whose boxes are made
// one after another: of each only the shape is given (`local` without memory), and no two are in memory at
// once. Collective; fails as CheckpointSaver does.
void save_one_by_one(Communicator& world, const std::string& directory, const TrainState& state,
                     const std::vector<TensorBox>& boxes, const BoxContents& contents);

}  // namespace jevons
