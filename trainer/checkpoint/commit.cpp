#include "trainer/checkpoint/commit.h"

#include <vector>

#include "kernels/core/error.h"
#include "parallel/agree.h"
#include "parallel/host_exchange.h"
#include "trainer/checkpoint/rank_file.h"
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

TemporaryFile::~TemporaryFile() {
  std::error_code ignored;
  fs::remove(path_, ignored);
}

void remove_leftovers(const fs::path& directory, const std::string& suffix) {
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(directory)) {
    if (entry.is_regular_file() && entry.path().filename().string().ends_with(suffix)) {
      found.push_back(entry.path());
    }
  }
  for (const fs::path& path : found) remove_file(path);
}

void commit_checkpoint(Communicator& world, const fs::path& directory, const TrainState& state,
                       const Manifest& part) {
  const bool first = world.rank() == 0;
  const std::vector<std::string> parts = gather_texts(world, serialize_manifest(part));
  Manifest manifest;
  agree(world, [&] {
    if (!first) return;
    manifest = merge_parts(parts);
    manifest.state = state;
    withdraw(directory);
  });
  agree(world, [&] {
    for (const StoredFile& file : part.files) {
      const std::string path = (directory / file.name).string();
      rename_durably(path + kTemporarySuffix, path);
    }
  });
  agree(world, [&] {
    if (first) write_manifest(directory, manifest);
  });
}

}  // namespace jevons
