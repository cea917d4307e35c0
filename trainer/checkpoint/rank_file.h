// The file that one rank writes into a checkpoint, under a temporary name until all ranks have theirs.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "trainer/checkpoint/manifest.h"
#include "trainer/checkpoint/snapshot.h"

namespace jevons {

inline constexpr const char* kTemporarySuffix = ".tmp";

std::string rank_file_name(int rank);  // "rank-00003.safetensors"

struct RankFile {
  Manifest part;  // of the checkpoint's manifest: at most one file, none for an empty snapshot
  double bytes = 0;
  double seconds = 0;       // from the first byte hashed to the file on the disk
  double disk_seconds = 0;  // of them inside write and fsync
};

// Writes and flushes (fsync) <directory>/<name>.tmp. Makes no MPI call: it may run on a thread of its own.
RankFile write_rank_file(const std::filesystem::path& directory, int rank, std::int64_t step,
                         const Snapshot& snapshot);
// The same of pieces of which only dtype and shape are known before: `contents` makes each when it is due.
using PieceContents = std::function<Tensor(const Piece& piece)>;
RankFile write_rank_file(const std::filesystem::path& directory, int rank, std::int64_t step,
                         const std::vector<Piece>& pieces, const PieceContents& contents);

}  // namespace jevons
