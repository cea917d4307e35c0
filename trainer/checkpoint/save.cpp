// Saving in five steps, each of which all ranks finish before one begins the next (agree):
// prepare the directory; write temporary files; take back an older checkpoint of the same step; rename the
// files; commit the manifest.
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <filesystem>

#include "kernels/core/error.h"
#include "parallel/agree.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/manifest.h"
#include "trainer/checkpoint/safetensors.h"
#include "trainer/io/file.h"

namespace jevons {
namespace {

namespace fs = std::filesystem;

constexpr const char* kTemporarySuffix = ".tmp";

std::string rank_file_name(int rank) {
  return fmt::format("rank-{:05}.safetensors", rank);
}

// Removes the file, if it is still there, when a save ends: after a failure nothing takes space on a full
// disk.
class TemporaryFile {
 public:
  explicit TemporaryFile(fs::path path) : path_(std::move(path)) {}
  ~TemporaryFile() {
    std::error_code ignored;
    fs::remove(path_, ignored);
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

 private:
  fs::path path_;
};

// A box to be written, under its key.
struct Piece {
  const TensorBox* source;
  Box box;
  std::string key;
};

bool is_good_name(const std::string& name) {
  const auto good = [](char c) { return c > ' ' && c <= '~' && c != '@' && c != '"' && c != '\\'; };
  return !name.empty() && name != "__metadata__" && std::all_of(name.begin(), name.end(), good);
}

void check_box(const TensorBox& box, const Box& place) {
  ENSURE(is_good_name(box.name), "checkpoint: '{}' cannot be a tensor's name", box.name);
  ENSURE(box.local.device == Device::kCpu, "checkpoint: '{}' is {}; copy it to the host first", box.name,
         box.local.to_string());
  ENSURE(box.global_shape.ndim() > 0 && box.global_shape.numel() > 0, "checkpoint: '{}' is empty", box.name);
  ENSURE(inside(place, box.global_shape), "checkpoint: '{}' {} of shape {} lies outside its tensor {}",
         box.name, place.to_string(), box.local.shape.to_string(), box.global_shape.to_string());
}

// What this rank writes, widest elements first, so that each tensor is aligned in the file; then by key.
std::vector<Piece> pieces_of(const std::vector<TensorBox>& boxes) {
  std::vector<Piece> pieces;
  for (const TensorBox& source : boxes) {
    const auto extent = source.local.shape.dims();
    Box place{source.offset, {extent.begin(), extent.end()}};
    check_box(source, place);
    if (source.local.numel() == 0) continue;
    std::string key = box_key(source.name, source.global_shape, place);
    pieces.push_back({&source, std::move(place), std::move(key)});
  }
  std::sort(pieces.begin(), pieces.end(), [](const Piece& a, const Piece& b) {
    const std::size_t width_a = size_of(a.source->local.dtype), width_b = size_of(b.source->local.dtype);
    return width_a != width_b ? width_a > width_b : a.key < b.key;
  });
  return pieces;
}

SafetensorsHeader header_of(const std::vector<Piece>& pieces, const TrainState& state) {
  SafetensorsHeader header;
  header.metadata = {{"format", "jevons"}, {"step", std::to_string(state.step)}};
  std::uint64_t at = 0;
  for (const Piece& piece : pieces) {
    const std::uint64_t end = at + piece.source->local.bytes();
    header.entries.push_back({piece.key, piece.source->local.dtype, piece.box.extent, at, end});
    at = end;
  }
  return header;
}

// Writes this rank's file to a temporary name; returns its part of the manifest.
Manifest write_rank_file(const fs::path& directory, int rank, const TrainState& state,
                         const std::vector<TensorBox>& boxes) {
  Manifest part;
  const std::vector<Piece> pieces = pieces_of(boxes);
  if (pieces.empty()) return part;
  const SafetensorsHeader header = header_of(pieces, state);
  const std::string start = format_safetensors_header(header);
  ENSURE(start.size() <= kMaxSafetensorsHeader, "checkpoint: {} boxes are too many for one file",
         pieces.size());
  StoredFile stored{rank_file_name(rank), start.size(), XXH3_64bits(start.data(), start.size())};
  File file = File::create((directory / (stored.name + kTemporarySuffix)).string());
  file.write(start);
  std::map<std::string, StoredTensor> tensors;
  for (const Piece& piece : pieces) {
    const Tensor& local = piece.source->local;
    const std::span bytes(static_cast<const std::byte*>(local.data), local.bytes());
    file.write(bytes);
    StoredTensor& tensor = tensors[piece.source->name];
    tensor.name = piece.source->name;
    tensor.dtype = local.dtype;
    tensor.shape = piece.source->global_shape;
    const std::uint64_t begin = stored.bytes;
    stored.bytes += bytes.size();
    tensor.boxes.push_back({piece.box, 0, begin, stored.bytes, XXH3_64bits(bytes.data(), bytes.size())});
  }
  file.sync();
  part.files.push_back(std::move(stored));
  for (auto& [name, tensor] : tensors) part.tensors.push_back(std::move(tensor));
  return part;
}

// Every rank's bytes on rank 0, by rank; nothing on the others.
std::vector<std::string> gather_bytes(Communicator& world, std::string mine) {
  std::array<std::int64_t, 1> length = {static_cast<std::int64_t>(mine.size())};
  std::vector<std::int64_t> lengths(static_cast<std::size_t>(world.size()));
  world.all_gather({length.data(), {1}, DType::kI64}, {lengths.data(), {world.size()}, DType::kI64}).wait();
  if (world.rank() != 0) {
    world.send({mine.data(), {length[0]}, DType::kU8}, 0).wait();
    return {};
  }
  std::vector<std::string> all = {std::move(mine)};
  for (int rank = 1; rank < world.size(); ++rank) {
    const std::int64_t count = lengths[static_cast<std::size_t>(rank)];
    std::string& bytes = all.emplace_back(static_cast<std::size_t>(count), '\0');
    world.recv({bytes.data(), {count}, DType::kU8}, rank).wait();
  }
  return all;
}

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

void commit(const fs::path& directory, const Manifest& manifest) {
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

std::string save_checkpoint(Communicator& world, const std::string& dir, const TrainState& state,
                            const std::vector<TensorBox>& boxes) {
  const fs::path directory = fs::path(dir.empty() ? "." : dir) / fmt::format("step-{:08}", state.step);
  const bool first = world.rank() == 0;
  agree(world, [&] {
    if (!first) return;
    make_directories(directory.string());
    remove_leftovers(directory, kTemporarySuffix);
  });
  Manifest part;
  const TemporaryFile leftover(directory / (rank_file_name(world.rank()) + kTemporarySuffix));
  agree(world, [&] { part = write_rank_file(directory, world.rank(), state, boxes); });
  const std::vector<std::string> parts = gather_bytes(world, serialize_manifest(part));
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
    if (first) commit(directory, manifest);
  });
  return directory.string();
}

}  // namespace jevons
