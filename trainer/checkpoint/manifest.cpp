#include "trainer/checkpoint/manifest.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <filesystem>
#include <limits>
#include <map>

#include "checkpoint.pb.h"
#include "kernels/core/error.h"
#include "trainer/io/file.h"

namespace jevons {
namespace {

constexpr const char* kMagic = "jevons-checkpoint";
constexpr std::uint32_t kVersion = 1;

std::optional<DType> dtype_from_name(std::string_view name) {
  for (DType dtype : {DType::kF32, DType::kBF16, DType::kF64, DType::kI32, DType::kI64, DType::kU8}) {
    if (name_of(dtype) == name) return dtype;
  }
  return std::nullopt;
}

void write_state(const TrainState& state, proto::State& out) {
  out.set_step(state.step);
  out.set_consumed_samples(state.consumed_samples);
  out.set_consumed_tokens(state.consumed_tokens);
  out.set_optimizer_step(state.optimizer_step);
  for (const double loss : state.recent_losses) out.add_recent_loss(loss);
  if (state.sequence > 0) out.set_sequence(state.sequence);
  for (const Branch& branch : state.lineage.branches()) {
    proto::Branch& entry = *out.add_branch();
    entry.set_id(branch.id);
    entry.set_after(branch.after);
  }
  for (const auto& [key, value] : state.passport) {
    proto::Note& note = *out.add_passport();
    note.set_key(key);
    note.set_value(value);
  }
}

TrainState read_state(const proto::State& in) {
  TrainState state;
  state.step = in.step();
  state.consumed_samples = in.consumed_samples();
  state.consumed_tokens = in.consumed_tokens();
  state.optimizer_step = in.optimizer_step();
  state.recent_losses.assign(in.recent_loss().begin(), in.recent_loss().end());
  state.sequence = in.sequence();
  for (const proto::Branch& branch : in.branch()) state.lineage.take({branch.id(), branch.after()});
  for (const proto::Note& note : in.passport()) state.passport[note.key()] = note.value();
  return state;
}

void write_tensor(const StoredTensor& tensor, proto::StoredTensor& out) {
  out.set_name(tensor.name);
  out.set_dtype(std::string(name_of(tensor.dtype)));
  for (std::int64_t dim : tensor.shape.dims()) out.add_shape(dim);
  for (const StoredBox& stored : tensor.boxes) {
    proto::StoredBox& box = *out.add_box();
    for (std::int64_t o : stored.box.offset) box.add_offset(o);
    for (std::int64_t e : stored.box.extent) box.add_extent(e);
    box.set_file(stored.file);
    box.set_begin(stored.begin);
    box.set_end(stored.end);
    box.set_xxh3(stored.xxh3);
  }
}

// A file name that stays inside the checkpoint's directory.
bool is_plain_name(const std::string& name) {
  return !name.empty() && name.find('/') == std::string::npos && name.find('\0') == std::string::npos &&
         name != "." && name != "..";
}

StoredBox read_box(const proto::StoredBox& in, const StoredTensor& tensor,
                   const std::vector<StoredFile>& files, const std::string& where) {
  StoredBox stored;
  stored.box.offset.assign(in.offset().begin(), in.offset().end());
  stored.box.extent.assign(in.extent().begin(), in.extent().end());
  stored.file = in.file();
  stored.begin = in.begin();
  stored.end = in.end();
  stored.xxh3 = in.xxh3();
  if (!inside(stored.box, tensor.shape) || stored.box.volume() == 0) {
    fail(ExitCode::kData, "{}: a box lies outside the shape {}", where, tensor.shape.to_string());
  }
  if (stored.file >= files.size()) fail(ExitCode::kData, "{}: a box names no file", where);
  const auto bytes = static_cast<std::uint64_t>(stored.box.volume()) * size_of(tensor.dtype);
  if (stored.begin > stored.end || stored.end > files[stored.file].bytes ||
      stored.end - stored.begin != bytes) {
    fail(ExitCode::kData, "{}: box {} does not fit bytes {} to {} of {}", where, stored.box.to_string(),
         stored.begin, stored.end, files[stored.file].name);
  }
  return stored;
}

StoredTensor read_tensor(const proto::StoredTensor& in, const std::vector<StoredFile>& files,
                         const std::string& path) {
  const std::string where = fmt::format("{}: tensor '{}'", path, in.name());
  StoredTensor tensor;
  tensor.name = in.name();
  const std::optional<DType> dtype = dtype_from_name(in.dtype());
  if (!dtype) fail(ExitCode::kData, "{}: unknown dtype '{}'", where, in.dtype());
  tensor.dtype = *dtype;
  const std::vector<std::int64_t> dims(in.shape().begin(), in.shape().end());
  const std::optional<std::int64_t> numel = checked_numel(dims);
  constexpr std::int64_t kMaxNumel = std::numeric_limits<std::int64_t>::max() / 8;
  if (dims.empty() || dims.size() > Shape::kMaxDims || !numel || *numel == 0 || *numel > kMaxNumel) {
    fail(ExitCode::kData, "{}: impossible shape ({})", where, fmt::join(dims, ", "));
  }
  tensor.shape = Shape(dims);
  for (const proto::StoredBox& box : in.box()) tensor.boxes.push_back(read_box(box, tensor, files, where));
  return tensor;
}

std::string problem_of(const StoredTensor& tensor) {
  std::vector<Box> boxes;
  for (const StoredBox& stored : tensor.boxes) boxes.push_back(stored.box);
  return tiling_problem(tensor.shape, std::move(boxes));
}

std::string manifest_of(const std::string& directory) {
  const std::string path = directory + "/" + kManifestName;
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) {
    fail(ExitCode::kData, "{}: not a checkpoint, it has no {}", directory, kManifestName);
  }
  return path;
}

// Unwraps and checks magic, version and checksum. Bytes that a writer would not have produced are damage too.
proto::Manifest unwrap(std::string_view bytes, const std::string& path) {
  proto::ManifestFile file;
  const bool fits = bytes.size() <= static_cast<std::size_t>(std::numeric_limits<int>::max());
  if (!fits || !file.ParsePartialFromArray(bytes.data(), static_cast<int>(bytes.size())) ||
      !file.IsInitialized() || file.magic() != kMagic) {
    fail(ExitCode::kData, "{}: damaged, or not a checkpoint's manifest", path);
  }
  if (file.version() != kVersion) {
    fail(ExitCode::kData, "{}: format version {}, this program reads version {}", path, file.version(),
         kVersion);
  }
  if (file.xxh3() != XXH3_64bits(file.manifest().data(), file.manifest().size()) ||
      file.SerializeAsString() != bytes) {
    fail(ExitCode::kData, "{}: checksum mismatch, the manifest is damaged", path);
  }
  proto::Manifest manifest;
  if (!manifest.ParsePartialFromString(file.manifest()) || !manifest.IsInitialized()) {
    fail(ExitCode::kData, "{}: a field is missing", path);
  }
  return manifest;
}

}  // namespace

std::string box_key(const std::string& name, const Shape& shape, const Box& box) {
  if (std::equal(box.extent.begin(), box.extent.end(), shape.dims().begin())) return name;
  return fmt::format("{}@{}", name, fmt::join(box.offset, ","));
}

Manifest merge_manifests(const std::vector<Manifest>& parts) {
  Manifest merged;
  std::map<std::string, StoredTensor> by_name;
  for (const Manifest& part : parts) {
    const auto first_file = static_cast<std::uint32_t>(merged.files.size());
    merged.files.insert(merged.files.end(), part.files.begin(), part.files.end());
    for (const StoredTensor& tensor : part.tensors) {
      auto [place, is_new] =
          by_name.try_emplace(tensor.name, StoredTensor{tensor.name, tensor.dtype, tensor.shape, {}});
      StoredTensor& all = place->second;
      if (all.shape != tensor.shape || all.dtype != tensor.dtype) {
        fail(ExitCode::kFailure, "tensor '{}' is {} {} on one rank and {} {} on another", tensor.name,
             name_of(all.dtype), all.shape.to_string(), name_of(tensor.dtype), tensor.shape.to_string());
      }
      for (StoredBox box : tensor.boxes) {
        box.file += first_file;
        all.boxes.push_back(std::move(box));
      }
    }
  }
  for (auto& [name, tensor] : by_name) {
    std::sort(tensor.boxes.begin(), tensor.boxes.end(),
              [](const StoredBox& a, const StoredBox& b) { return a.box.offset < b.box.offset; });
    if (const std::string problem = problem_of(tensor); !problem.empty()) {
      fail(ExitCode::kFailure, "tensor '{}' {}: {}", name, tensor.shape.to_string(), problem);
    }
    merged.tensors.push_back(std::move(tensor));
  }
  return merged;
}

std::string serialize_manifest(const Manifest& manifest) {
  proto::Manifest body;
  write_state(manifest.state, *body.mutable_state());
  for (const StoredFile& file : manifest.files) {
    proto::RankFile& out = *body.add_file();
    out.set_name(file.name);
    out.set_bytes(file.bytes);
    out.set_header_xxh3(file.header_xxh3);
  }
  for (const StoredTensor& tensor : manifest.tensors) write_tensor(tensor, *body.add_tensor());
  proto::ManifestFile file;
  file.set_magic(kMagic);
  file.set_version(kVersion);
  file.set_manifest(body.SerializeAsString());
  file.set_xxh3(XXH3_64bits(file.manifest().data(), file.manifest().size()));
  return file.SerializeAsString();
}

Manifest parse_manifest(std::string_view bytes, const std::string& path, ManifestExtent extent) {
  const proto::Manifest body = unwrap(bytes, path);
  Manifest manifest;
  manifest.state = read_state(body.state());
  for (const proto::RankFile& file : body.file()) {
    if (!is_plain_name(file.name())) fail(ExitCode::kData, "{}: impossible file name", path);
    manifest.files.push_back({file.name(), file.bytes(), file.header_xxh3()});
  }
  for (const proto::StoredTensor& in : body.tensor()) {
    if (!manifest.tensors.empty() && !(manifest.tensors.back().name < in.name())) {
      fail(ExitCode::kData, "{}: tensor '{}' is out of order or listed twice", path, in.name());
    }
    manifest.tensors.push_back(read_tensor(in, manifest.files, path));
    const std::string problem = extent == ManifestExtent::kWhole ? problem_of(manifest.tensors.back()) : "";
    if (!problem.empty()) fail(ExitCode::kData, "{}: tensor '{}': {}", path, in.name(), problem);
  }
  return manifest;
}

Manifest load_manifest(const std::string& directory) {
  const std::string path = manifest_of(directory);
  return parse_manifest(read_text_file(path), path, ManifestExtent::kWhole);
}

TrainState load_state(const std::string& directory) {
  const std::string path = manifest_of(directory);
  return read_state(unwrap(read_text_file(path), path).state());
}

}  // namespace jevons
