// Saving in five steps, each of which all ranks finish before one begins the next: copy the boxes and prepare
// the directory; write temporary files (on threads); then the three of commit_checkpoint.
#include "trainer/checkpoint/saver.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "kernels/core/error.h"
#include "parallel/agree.h"
#include "parallel/host_exchange.h"
#include "trainer/io/file.h"

namespace jevons {

namespace fs = std::filesystem;

CheckpointSaver::CheckpointSaver(Communicator& world, const std::string& dir, const Stream* stream)
    : world_(world), dir_(dir.empty() ? "." : dir), stream_(stream) {}

void CheckpointSaver::begin(const TrainState& state, const std::vector<TensorBox>& boxes,
                            Originals originals) {
  ENSURE(!under_way(), "step {}: the checkpoint of step {} is not committed yet", state.step, state_.step);
  state_ = state;
  directory_ = dir_ / fmt::format("step-{:08}", state.step);
  agree(world_, [&] {
    snapshot_.take(boxes, stream_, originals);
    if (world_.rank() != 0) return;
    make_directories(directory_.string());
    remove_leftovers(directory_, kTemporarySuffix);
  });
  temporary_ =
      std::make_unique<TemporaryFile>(directory_ / (rank_file_name(world_.rank()) + kTemporarySuffix));
  written_ = std::async(std::launch::async, [this, rank = world_.rank()] {
    return write_rank_file(directory_, rank, state_.step, snapshot_);
  });
}

bool CheckpointSaver::is_writing() const {
  return under_way() && written_.wait_for(std::chrono::seconds(0)) != std::future_status::ready;
}

SavedCheckpoint CheckpointSaver::commit() {
  const std::unique_ptr<TemporaryFile> until_the_end = std::move(temporary_);
  RankFile file;
  agree(world_, [&] { file = written_.get(); });  // nothing is under way from here on
  commit_checkpoint(world_, directory_, state_, file.part);
  return {.step = state_.step,
          .path = directory_.string(),
          .bytes = all_reduce(world_, file.bytes),
          .write_seconds = all_reduce(world_, file.seconds, ReduceOp::kMax),
          .disk_seconds = all_reduce(world_, file.disk_seconds, ReduceOp::kMax)};
}

void save_one_by_one(Communicator& world, const std::string& directory, const TrainState& state,
                     const std::vector<TensorBox>& boxes, const BoxContents& contents) {
  const fs::path path(directory);
  RankFile file;
  const TemporaryFile until_the_end(path / (rank_file_name(world.rank()) + kTemporarySuffix));
  agree(world, [&] {
    const std::vector<Piece> pieces = pieces_of(boxes);
    file = write_rank_file(path, world.rank(), state.step, pieces, [&](const Piece& piece) {
      return contents({piece.name, piece.global_shape, piece.box.offset, piece.host});
    });
  });
  commit_checkpoint(world, path, state, file.part);
}

}  // namespace jevons
