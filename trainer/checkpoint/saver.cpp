// Saving in five steps, each of which all ranks finish before one begins the next: copy the boxes and prepare
// the directory; write temporary files (on threads); take back an older checkpoint of the same step; rename
// the files; commit the manifest.
#include "trainer/checkpoint/saver.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "kernels/core/error.h"
#include "parallel/agree.h"
#include "parallel/host_exchange.h"
#include "trainer/checkpoint/manifest.h"
#include "trainer/io/file.h"

namespace jevons {
namespace {

namespace fs = std::filesystem;

Manifest merge_parts(const std::vector<std::string>& serialized) {
  std::vector<Manifest> parts;
  for (const std::string& bytes : serialized) {
    parts.push_back(parse_manifest(bytes, "boxes of a rank", ManifestExtent::kPart));
  }
  return merge_manifests(parts);
}

// Removes the regular files whose name ends in `suffix`.
void remove_leftovers(const fs::path& directory, const std::string& suffix) {
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(directory)) {
    if (entry.is_regular_file() && entry.path().filename().string().ends_with(suffix)) {
      found.push_back(entry.path());
    }
  }
  for (const fs::path& path : found) remove_file(path);
}

// From here to the commit, the directory holds no checkpoint.
void withdraw(const fs::path& directory) {
  remove_file(directory / kManifestName);
  sync_directory(directory.string());
  remove_leftovers(directory, ".safetensors");
}

// The commit.
void write_manifest(const fs::path& directory, const Manifest& manifest) {
  const std::string path = (directory / kManifestName).string();
  {
    File file = File::create(path + kTemporarySuffix);
    file.write(serialize_manifest(manifest));
    file.sync();
  }
  rename_durably(path + kTemporarySuffix, path);
  sync_directory(directory.parent_path().string());  // the new directory's own name
}

}  // namespace

CheckpointSaver::TemporaryFile::~TemporaryFile() {
  std::error_code ignored;
  fs::remove(path_, ignored);
}

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
  publish(file.part);
  return {.step = state_.step,
          .path = directory_.string(),
          .bytes = all_reduce(world_, file.bytes),
          .write_seconds = all_reduce(world_, file.seconds, ReduceOp::kMax),
          .disk_seconds = all_reduce(world_, file.disk_seconds, ReduceOp::kMax)};
}

void CheckpointSaver::publish(const Manifest& part) {
  const bool first = world_.rank() == 0;
  const std::vector<std::string> parts = gather_texts(world_, serialize_manifest(part));
  Manifest manifest;
  agree(world_, [&] {
    if (!first) return;
    manifest = merge_parts(parts);
    manifest.state = state_;
    withdraw(directory_);
  });
  agree(world_, [&] {
    for (const StoredFile& file : part.files) {
      const std::string path = (directory_ / file.name).string();
      rename_durably(path + kTemporarySuffix, path);
    }
  });
  agree(world_, [&] {
    if (first) write_manifest(directory_, manifest);
  });
}

}  // namespace jevons
