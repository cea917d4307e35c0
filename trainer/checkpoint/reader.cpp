#include <xxhash.h>

#include <algorithm>
#include <map>
#include <memory>
#include <tuple>

#include "kernels/core/error.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/manifest.h"
#include "trainer/io/file.h"
#include "trainer/io/safetensors.h"

namespace jevons {
namespace {

// Stored boxes are streamed through a buffer of this size: hashed, and copied where they are wanted.
constexpr std::size_t kChunkBytes = 4 << 20;

// The part of one stored box that goes to one tensor in memory.
class Destination {
 public:
  // `runs` count elements of `width` bytes and ascend.
  Destination(std::vector<CopyRun> runs, std::size_t width, void* to)
      : runs_(std::move(runs)), width_(static_cast<std::int64_t>(width)), to_(static_cast<std::byte*>(to)) {}

  // Chunks come in order and without gaps; `at` is the place of this one in the stored box, in bytes.
  void take(std::span<const std::byte> chunk, std::int64_t at) {
    const std::int64_t chunk_end = at + static_cast<std::int64_t>(chunk.size());
    for (; next_ < runs_.size(); ++next_) {
      const std::int64_t from = runs_[next_].from * width_;
      const std::int64_t run_end = from + runs_[next_].count * width_;
      const std::int64_t begin = std::max(at, from), end = std::min(chunk_end, run_end);
      if (begin < end) {
        std::copy_n(chunk.data() + (begin - at), end - begin,
                    to_ + runs_[next_].to * width_ + (begin - from));
      }
      if (run_end > chunk_end) return;
    }
  }

 private:
  std::vector<CopyRun> runs_;
  std::int64_t width_;
  std::byte* to_;
  std::size_t next_ = 0;
};

// A stored box to be read whole, once.
struct Visit {
  const StoredTensor* tensor;
  const StoredBox* stored;
  std::vector<Destination> destinations;
};

struct FreeHashState {
  void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
};

// Streams the box to its destinations; throws if the bytes are not those that were written.
void stream_box(const File& file, Visit& visit, std::vector<std::byte>& buffer) {
  const std::unique_ptr<XXH3_state_t, FreeHashState> hash(XXH3_createState());
  XXH3_64bits_reset(hash.get());
  const StoredBox& stored = *visit.stored;
  for (std::uint64_t at = stored.begin; at < stored.end;) {
    const std::span<std::byte> chunk(buffer.data(), std::min<std::uint64_t>(buffer.size(), stored.end - at));
    file.read_at(at, chunk);
    XXH3_64bits_update(hash.get(), chunk.data(), chunk.size());
    for (Destination& to : visit.destinations) to.take(chunk, static_cast<std::int64_t>(at - stored.begin));
    at += chunk.size();
  }
  if (XXH3_64bits_digest(hash.get()) != stored.xxh3) {
    fail(ExitCode::kData, "{}: tensor '{}' {}: checksum mismatch, bytes {} to {} are damaged", file.path(),
         visit.tensor->name, stored.box.to_string(), stored.begin, stored.end);
  }
}

// The header's bytes, length prefix included, as they were written.
std::vector<std::byte> read_header(const File& file, const StoredFile& stored) {
  if (file.size() != stored.bytes) {
    fail(ExitCode::kData, "{}: has {} bytes, {} were written", file.path(), file.size(), stored.bytes);
  }
  std::vector<std::byte> header(std::min(stored.bytes, kSafetensorsPrefix));
  file.read_at(0, header);
  header.resize(safetensors_header_bytes(header, stored.bytes, file.path()));
  file.read_at(0, header);
  if (XXH3_64bits(header.data(), header.size()) != stored.header_xxh3) {
    fail(ExitCode::kData, "{}: checksum mismatch, the header is damaged", file.path());
  }
  return header;
}

// Whether the file's own header says of `visits`, all its boxes, what the manifest says, so that other
// readers of safetensors see the same tensors.
void check_header(const File& file, std::span<const std::byte> header_bytes, std::span<const Visit> visits) {
  const SafetensorsHeader header = parse_safetensors_header(header_bytes, file.size(), file.path());
  std::map<std::string, const SafetensorsEntry*> by_key;
  for (const SafetensorsEntry& entry : header.entries) by_key[entry.key] = &entry;
  for (const auto& [tensor, stored, destinations] : visits) {
    const auto found = by_key.find(box_key(tensor->name, tensor->shape, stored->box));
    if (found == by_key.end() || found->second->dtype != tensor->dtype ||
        found->second->shape != stored->box.extent ||
        found->second->begin + header_bytes.size() != stored->begin) {
      fail(ExitCode::kData, "{}: tensor '{}' {}: header and manifest disagree", file.path(), tensor->name,
           stored->box.to_string());
    }
  }
  if (visits.size() != header.entries.size()) {
    fail(ExitCode::kData, "{}: holds {} boxes, the manifest lists {}", file.path(), header.entries.size(),
         visits.size());
  }
}

// How much of a file's header is checked: that it is as written, or also that it says what the manifest says.
enum class HeaderCheck { kChecksum, kContents };

}  // namespace

struct CheckpointReader::Impl {
  std::string directory;
  Manifest manifest;
  std::vector<TensorEntry> entries;
  std::map<std::string, const StoredTensor*> by_name;

  const StoredTensor& tensor_for(const TensorBox& wanted, const Box& place) const;
  void visit_in_order(std::vector<Visit> visits, HeaderCheck check) const;
};

// The stored tensor that a request is about; throws unless it can be answered.
const StoredTensor& CheckpointReader::Impl::tensor_for(const TensorBox& wanted, const Box& place) const {
  const auto found = by_name.find(wanted.name);
  if (found == by_name.end()) fail(ExitCode::kData, "{}: has no tensor '{}'", directory, wanted.name);
  const StoredTensor& tensor = *found->second;
  if (tensor.shape != wanted.global_shape || tensor.dtype != wanted.local.dtype) {
    fail(ExitCode::kData, "{}: tensor '{}' is {} {}, this run needs {} {}", directory, wanted.name,
         name_of(tensor.dtype), tensor.shape.to_string(), name_of(wanted.local.dtype),
         wanted.global_shape.to_string());
  }
  ENSURE(inside(place, tensor.shape), "checkpoint: box {} of '{}' lies outside {}", place.to_string(),
         wanted.name, tensor.shape.to_string());
  ENSURE(wanted.local.device == Device::kCpu, "checkpoint: '{}' cannot be read into {}", wanted.name,
         wanted.local.to_string());
  return tensor;
}

// File by file and from front to back.
void CheckpointReader::Impl::visit_in_order(std::vector<Visit> visits, HeaderCheck check) const {
  std::sort(visits.begin(), visits.end(), [](const Visit& a, const Visit& b) {
    return std::tie(a.stored->file, a.stored->begin) < std::tie(b.stored->file, b.stored->begin);
  });
  std::vector<std::byte> buffer(kChunkBytes);
  for (auto first = visits.begin(); first != visits.end();) {
    const std::uint32_t index = first->stored->file;
    const auto last =
        std::find_if(first, visits.end(), [&](const Visit& v) { return v.stored->file != index; });
    const File file = File::open_read(directory + "/" + manifest.files[index].name);
    const std::vector<std::byte> header = read_header(file, manifest.files[index]);
    if (check == HeaderCheck::kContents) check_header(file, header, {first, last});
    for (; first != last; ++first) stream_box(file, *first, buffer);
  }
}

CheckpointReader::CheckpointReader(const std::string& path) : impl_(std::make_unique<Impl>()) {
  impl_->directory = path;
  impl_->manifest = load_manifest(path);
  for (const StoredTensor& tensor : impl_->manifest.tensors) {
    impl_->entries.push_back({tensor.name, tensor.shape, tensor.dtype});
    impl_->by_name[tensor.name] = &tensor;
  }
}

CheckpointReader::~CheckpointReader() = default;

const TrainState& CheckpointReader::state() const {
  return impl_->manifest.state;
}

const std::vector<TensorEntry>& CheckpointReader::tensors() const {
  return impl_->entries;
}

bool CheckpointReader::has(const std::string& name) const {
  return impl_->by_name.contains(name);
}

void CheckpointReader::read(const std::vector<TensorBox>& boxes) const {
  std::map<const StoredBox*, Visit> visits;
  for (const TensorBox& wanted : boxes) {
    const auto extent = wanted.local.shape.dims();
    const Box place{wanted.offset, {extent.begin(), extent.end()}};
    const StoredTensor& tensor = impl_->tensor_for(wanted, place);
    std::int64_t covered = 0;
    for (const StoredBox& stored : tensor.boxes) {
      std::vector<CopyRun> runs;
      append_copy_runs(stored.box, place, runs);
      if (runs.empty()) continue;
      for (const CopyRun& run : runs) covered += run.count;
      Visit& visit = visits.try_emplace(&stored, Visit{&tensor, &stored, {}}).first->second;
      visit.destinations.emplace_back(std::move(runs), size_of(tensor.dtype), wanted.local.data);
    }
    ENSURE(covered == wanted.local.numel(), "{}: tensor '{}' {}: {} of {} elements are stored",
           impl_->directory, wanted.name, place.to_string(), covered, wanted.local.numel());
  }
  std::vector<Visit> ordered;
  for (auto& [stored, visit] : visits) ordered.push_back(std::move(visit));
  impl_->visit_in_order(std::move(ordered), HeaderCheck::kChecksum);
}

void CheckpointReader::verify() const {
  std::vector<Visit> visits;
  for (const StoredTensor& tensor : impl_->manifest.tensors) {
    for (const StoredBox& stored : tensor.boxes) visits.push_back({&tensor, &stored, {}});
  }
  impl_->visit_in_order(std::move(visits), HeaderCheck::kContents);
}

}  // namespace jevons
