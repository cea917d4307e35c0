#include "trainer/checkpoint/rank_file.h"

#include <xxhash.h>

#include <chrono>
#include <map>

#include "kernels/core/error.h"
#include "trainer/io/file.h"
#include "trainer/io/safetensors.h"

namespace jevons {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// A file that knows how long the disk took.
class TimedFile {
 public:
  explicit TimedFile(const std::string& path) : file_(File::create(path)) {}
  template <class Bytes>
  void write(const Bytes& bytes) {
    const Clock::time_point start = Clock::now();
    file_.write(bytes);
    seconds_ += seconds_since(start);
  }
  void sync() {
    const Clock::time_point start = Clock::now();
    file_.sync();
    seconds_ += seconds_since(start);
  }
  double seconds() const { return seconds_; }

 private:
  File file_;
  double seconds_ = 0;
};

SafetensorsHeader header_of(const std::vector<Piece>& pieces, std::int64_t step) {
  SafetensorsHeader header;
  header.metadata = {{"format", "jevons"}, {"step", std::to_string(step)}};
  std::uint64_t at = 0;
  for (const Piece& piece : pieces) {
    const std::uint64_t end = at + piece.host.bytes();
    header.entries.push_back({piece.key, piece.host.dtype, piece.box.extent, at, end});
    at = end;
  }
  return header;
}

}  // namespace

std::string rank_file_name(int rank) {
  return fmt::format("rank-{:05}.safetensors", rank);
}

RankFile write_rank_file(const std::filesystem::path& directory, int rank, std::int64_t step,
                         const Snapshot& snapshot) {
  return write_rank_file(directory, rank, step, snapshot.pieces(),
                         [](const Piece& piece) { return piece.host; });
}

RankFile write_rank_file(const std::filesystem::path& directory, int rank, std::int64_t step,
                         const std::vector<Piece>& pieces, const PieceContents& contents) {
  const Clock::time_point began = Clock::now();
  if (pieces.empty()) return {};
  const std::string start = format_safetensors_header(header_of(pieces, step));
  ENSURE(start.size() <= kMaxSafetensorsHeader, "checkpoint: {} boxes are too many for one file",
         pieces.size());
  StoredFile stored{rank_file_name(rank), start.size(), XXH3_64bits(start.data(), start.size())};
  TimedFile file((directory / (stored.name + kTemporarySuffix)).string());
  file.write(start);
  std::map<std::string, StoredTensor> tensors;
  for (const Piece& piece : pieces) {
    const Tensor made = contents(piece);
    const std::span bytes(static_cast<const std::byte*>(made.data), made.bytes());
    file.write(bytes);
    StoredTensor& tensor = tensors[piece.name];
    tensor.name = piece.name;
    tensor.dtype = piece.host.dtype;
    tensor.shape = piece.global_shape;
    const std::uint64_t begin = stored.bytes;
    stored.bytes += bytes.size();
    tensor.boxes.push_back({piece.box, 0, begin, stored.bytes, XXH3_64bits(bytes.data(), bytes.size())});
  }
  file.sync();
  RankFile result;
  result.bytes = static_cast<double>(stored.bytes);
  result.part.files.push_back(std::move(stored));
  for (auto& [name, tensor] : tensors) result.part.tensors.push_back(std::move(tensor));
  result.seconds = seconds_since(began);
  result.disk_seconds = file.seconds();
  return result;
}

}  // namespace jevons
