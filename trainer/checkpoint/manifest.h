// The manifest of a checkpoint as plain data, and its bytes. Reading checks everything that later code relies
// on, so that a manifest in hand is consistent: names are unique, boxes tile their tensors, byte ranges lie
// inside files.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "trainer/checkpoint/checkpoint.h"
#include "trainer/io/box.h"

namespace jevons {

inline constexpr const char* kManifestName = "manifest.pb";

struct StoredFile {
  std::string name;  // "rank-00003.safetensors"
  std::uint64_t bytes = 0;
  std::uint64_t header_xxh3 = 0;
};

struct StoredBox {
  Box box;
  std::uint32_t file = 0;            // index into Manifest::files
  std::uint64_t begin = 0, end = 0;  // bytes of the file
  std::uint64_t xxh3 = 0;
};

struct StoredTensor {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;  // global
  std::vector<StoredBox> boxes;
};

struct Manifest {
  TrainState state;
  std::vector<StoredFile> files;
  std::vector<StoredTensor> tensors;
};

// The key of a box inside its file: the tensor's name when the box is the whole tensor, else "name@o0,o1".
std::string box_key(const std::string& name, const Shape& shape, const Box& box);

// Merges what ranks wrote (each part: at most one file) into one manifest, sorted; the state is left as it
// is. Throws Error(kFailure) naming a tensor on which ranks disagree, or whose boxes overlap or leave
// elements out.
Manifest merge_manifests(const std::vector<Manifest>& parts);

// The bytes of manifest.pb, magic and checksum included; the same manifest gives the same bytes.
std::string serialize_manifest(const Manifest& manifest);
// Throws Error(kData) naming `path`. A part covers its own boxes only, a whole manifest every tensor.
enum class ManifestExtent : std::uint8_t { kPart, kWhole };
Manifest parse_manifest(std::string_view bytes, const std::string& path, ManifestExtent extent);
// Reads <directory>/manifest.pb.
Manifest load_manifest(const std::string& directory);
// Its state alone; tensors and files are not looked at.
TrainState load_state(const std::string& directory);

}  // namespace jevons
