#include "trainer/hf/hf_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <set>
#include <tuple>

#include "kernels/core/error.h"
#include "trainer/hf/elements.h"
#include "trainer/io/box.h"
#include "trainer/io/file.h"

namespace jevons {
namespace {

constexpr std::size_t kChunkBytes = 4 << 20;
constexpr const char* kScaleSuffix = "_scale_inv";

std::string shown(const std::vector<std::int64_t>& shape) {
  return fmt::format("({})", fmt::join(shape, ", "));
}

std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

// Rows and columns of a tensor of one or two dims: a vector is one row.
struct Extent {
  std::int64_t rows, cols;
};
Extent extent_of(std::span<const std::int64_t> dims) {
  return dims.size() == 1 ? Extent{1, dims[0]} : Extent{dims[0], dims[1]};
}

}  // namespace

// Reads rows of stored tensors; keeps the file and the scales that it used last.
class HfSource::Reader {
 public:
  explicit Reader(const HfSource& source) : source_(source), bytes_(kChunkBytes) {}

  void fill(const Stored& stored, const TensorBox& box) {
    const Extent whole = extent_of(stored.tensor->shape), part = extent_of(box.local.shape.dims());
    const bool vector = box.offset.size() == 1;
    const std::int64_t first_row = vector ? 0 : box.offset[0],
                       first_col = vector ? box.offset[0] : box.offset[1];
    load_scales(stored);
    float* const out = box.local.ptr<float>();
    // Whole rows at once where most of each is wanted and they stand in this order; else its part, row by
    // row.
    const bool by_row = part.cols < whole.cols / 2 || part.rows == 1 || stored.halves.head > 0;
    const std::int64_t width = by_row ? part.cols : whole.cols, skip = by_row ? 0 : first_col;
    const auto fit = static_cast<std::int64_t>(kChunkBytes / size_of(stored.tensor->dtype));
    const std::int64_t rows_at_once = by_row ? 1 : std::max<std::int64_t>(1, fit / width);
    for (std::int64_t row = 0; row < part.rows; row += rows_at_once) {
      const std::int64_t rows = std::min(rows_at_once, part.rows - row);
      const std::int64_t from_row = row_among_halves(stored.halves, first_row + row);
      read_elements(stored, from_row * whole.cols + (by_row ? first_col : 0), rows * width);
      for (std::int64_t r = 0; r < rows; ++r) {
        const float* from = values_.data() + r * width + skip;
        place(stored, {from_row + r, first_col, part.cols}, from, out + (row + r) * part.cols);
      }
    }
  }

 private:
  struct RowPart {
    std::int64_t row, first_col, cols;  // of the whole tensor
  };

  // values_ = elements [at, at + count) of the tensor.
  void read_elements(const Stored& stored, std::int64_t at, std::int64_t count) {
    const ShardTensor& tensor = *stored.tensor;
    const std::size_t width = size_of(tensor.dtype), bytes = static_cast<std::size_t>(count) * width;
    if (bytes > bytes_.size()) bytes_.resize(bytes);
    values_.resize(static_cast<std::size_t>(count));
    file(tensor.file)
        .read_at(tensor.begin + static_cast<std::uint64_t>(at) * width, std::span(bytes_).first(bytes));
    widen(tensor.dtype, std::span(bytes_).first(bytes), values_);
  }

  void place(const Stored& stored, RowPart part, const float* from, float* out) const {
    const auto [row, first_col, cols] = part;
    const auto [block_rows, block_cols] = source_.config_.scale_block;
    std::copy_n(from, cols, out);
    for (std::int64_t c = 0; stored.scale != nullptr && c < cols;) {
      const std::int64_t block = (first_col + c) / block_cols;
      const std::int64_t end = std::min(cols, (block + 1) * block_cols - first_col);
      const float scale = scales_[static_cast<std::size_t>(row / block_rows * scale_cols_ + block)];
      for (; c < end; ++c) out[c] *= scale;
    }
    if (std::all_of(out, out + cols, [](float v) { return std::isfinite(v); })) return;
    const auto bad = std::find_if(out, out + cols, [](float v) { return !std::isfinite(v); });
    fail(ExitCode::kData, "{}: the element in row {}, column {} is {}",
         source_.shards_.place_of(*stored.tensor), row, first_col + (bad - out), *bad);
  }

  void load_scales(const Stored& stored) {
    if (stored.scale == nullptr || stored.scale == loaded_) return;
    const ShardTensor& scale = *stored.scale;
    scale_cols_ = scale.shape[1];
    read_elements({.name = {}, .tensor = &scale}, 0, scale.shape[0] * scale.shape[1]);
    scales_ = values_;
    loaded_ = &scale;
    const auto bad = std::find_if(scales_.begin(), scales_.end(), [](float s) { return !std::isfinite(s); });
    if (bad == scales_.end()) return;
    const std::int64_t at = bad - scales_.begin();
    fail(ExitCode::kData, "{}: the scale of block ({}, {}) is {}", source_.shards_.place_of(scale),
         at / scale_cols_, at % scale_cols_, *bad);
  }

  const File& file(std::size_t index) {
    if (!file_ || open_ != index) file_ = File::open_read(source_.shards_.files()[index]);
    open_ = index;
    return *file_;
  }

  const HfSource& source_;
  std::optional<File> file_;
  std::size_t open_ = 0;
  std::vector<std::byte> bytes_;
  std::vector<float> values_, scales_;
  const ShardTensor* loaded_ = nullptr;  // whose values scales_ are
  std::int64_t scale_cols_ = 0;
};

HfSource::~HfSource() = default;

HfSource::HfSource(const std::string& directory, const HfConfig& config)
    : shards_(directory), config_(config) {
  const std::vector<WeightPlace> places = weight_places(config.family, config.model);
  for (const WeightPlace& place : places) {
    if (place.is_copy) continue;
    Stored& stored = by_name_[place.name] = find(place);
    if (config.rotary_halves) stored.halves = place.rotary;
    entries_.push_back({place.name, place.shape, DType::kF32});
  }
  check_no_others(places);
}

HfSource::Stored HfSource::find(const WeightPlace& place) const {
  const ShardTensor* tensor = shards_.find(place.hf_name);
  if (tensor == nullptr) {
    fail(ExitCode::kData, "{}: has no tensor '{}'", shards_.directory(), place.hf_name);
  }
  const auto dims = place.shape.dims();
  if (!std::equal(dims.begin(), dims.end(), tensor->shape.begin(), tensor->shape.end())) {
    fail(ExitCode::kData, "{}: has the shape {}, config.json makes it {}", shards_.place_of(*tensor),
         shown(tensor->shape), place.shape.to_string());
  }
  if (!is_weight_type(tensor->dtype)) {
    fail(ExitCode::kData, "{}: weights of type {} are not read", shards_.place_of(*tensor),
         name_of(tensor->dtype));
  }
  const ShardTensor* scale = shards_.find(place.hf_name + kScaleSuffix);
  const bool scaled = tensor->dtype == FileDType::kE4M3;
  if (scaled != (scale != nullptr)) {
    fail(ExitCode::kData, "{}: is {}, {}", shards_.place_of(*tensor), name_of(tensor->dtype),
         scaled ? "but has no scales" : "which takes no scales");
  }
  if (!scaled) return {place.name, tensor};
  const auto [rows, cols] = config_.scale_block;
  const std::vector<std::int64_t> blocks = dims.size() == 2
                                               ? std::vector{ceil_div(dims[0], rows), ceil_div(dims[1], cols)}
                                               : std::vector<std::int64_t>{};
  const bool good_type = scale->dtype == FileDType::kF32 || scale->dtype == FileDType::kBF16;
  if (scale->shape != blocks || !good_type) {
    fail(ExitCode::kData, "{}: is {} {}, a matrix of {} takes F32 {}", shards_.place_of(*scale),
         name_of(scale->dtype), shown(scale->shape), place.shape.to_string(), shown(blocks));
  }
  return {place.name, tensor, scale};
}

void HfSource::check_no_others(const std::vector<WeightPlace>& places) const {
  std::set<std::string> known;
  for (const WeightPlace& place : places) {
    known.insert(place.hf_name);
    known.insert(place.hf_name + kScaleSuffix);
  }
  for (const auto& [name, tensor] : shards_.tensors()) {
    const bool tied_head = config_.model.tie_embeddings && name == kHeadTensor;
    if (known.contains(name) || tied_head || is_ignored_tensor(name)) continue;
    fail(ExitCode::kData, "{}: a model of config.json has no place for it", shards_.place_of(tensor));
  }
}

void HfSource::read(const std::vector<TensorBox>& boxes) const {
  struct Visit {
    const Stored* stored;
    const TensorBox* box;
  };
  std::vector<Visit> visits;
  for (const TensorBox& box : boxes) {
    const auto found = by_name_.find(box.name);
    if (found == by_name_.end())
      fail(ExitCode::kData, "{}: has no tensor '{}'", shards_.directory(), box.name);
    const Stored& stored = found->second;
    const auto dims = box.global_shape.dims();
    if (!std::equal(dims.begin(), dims.end(), stored.tensor->shape.begin(), stored.tensor->shape.end())) {
      fail(ExitCode::kData, "{}: has the shape {}, this run needs {}", shards_.place_of(*stored.tensor),
           shown(stored.tensor->shape), box.global_shape.to_string());
    }
    const auto extent = box.local.shape.dims();
    ENSURE(inside({box.offset, {extent.begin(), extent.end()}}, box.global_shape), "'{}': a box outside",
           box.name);
    if (box.local.numel() > 0) visits.push_back({&stored, &box});
  }
  std::sort(visits.begin(), visits.end(), [](const Visit& a, const Visit& b) {
    return std::tie(a.stored->tensor->file, a.stored->tensor->begin, a.box->offset) <
           std::tie(b.stored->tensor->file, b.stored->tensor->begin, b.box->offset);
  });
  Reader reader(*this);
  for (const Visit& visit : visits) reader.fill(*visit.stored, *visit.box);
}

void HfSource::check_tied_head() const {
  const ShardTensor* head = shards_.find(kHeadTensor);
  if (!config_.model.tie_embeddings || head == nullptr) return;
  const ShardTensor& embedding = *by_name_.at("embedding").tensor;
  bool same = head->dtype == embedding.dtype && head->shape == embedding.shape;
  if (same) {
    const File a = File::open_read(shards_.files()[head->file]),
               b = File::open_read(shards_.files()[embedding.file]);
    std::vector<std::byte> left(kChunkBytes), right(kChunkBytes);
    const std::uint64_t bytes = head->end - head->begin;
    for (std::uint64_t at = 0; same && at < bytes; at += kChunkBytes) {
      const auto part = static_cast<std::size_t>(std::min<std::uint64_t>(kChunkBytes, bytes - at));
      a.read_at(head->begin + at, std::span(left).first(part));
      b.read_at(embedding.begin + at, std::span(right).first(part));
      same = std::memcmp(left.data(), right.data(), part) == 0;
    }
  }
  if (!same) {
    fail(ExitCode::kData, "{}: differs from '{}', to which tie_word_embeddings in config.json ties it",
         shards_.place_of(*head), kEmbeddingTensor);
  }
}

}  // namespace jevons
