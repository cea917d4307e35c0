#include "trainer/hf/export_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "trainer/hf/shards.h"

namespace jevons {
namespace {

DType type_of(Precision precision) {
  return precision == Precision::kBF16 ? DType::kBF16 : DType::kF32;
}

DType type_of(const WeightPlace& place, Precision precision) {
  return is_kept_in_f32(place.hf_name) ? DType::kF32 : type_of(precision);
}

std::int64_t bytes_of(const WeightPlace& place, Precision precision) {
  return place.shape.numel() * static_cast<std::int64_t>(size_of(type_of(place, precision)));
}

// Widest elements first, so that each tensor is aligned.
void fill_header(ExportFile& file, Precision precision) {
  std::stable_sort(file.weights.begin(), file.weights.end(), [&](const WeightPlace& a, const WeightPlace& b) {
    return size_of(type_of(a, precision)) > size_of(type_of(b, precision));
  });
  file.header.metadata = {{"format", "pt"}};  // which transformers asks for
  std::uint64_t at = 0;
  for (const WeightPlace& place : file.weights) {
    const auto dims = place.shape.dims();
    const auto bytes = static_cast<std::uint64_t>(bytes_of(place, precision));
    file.header.entries.push_back(
        {place.hf_name, type_of(place, precision), {dims.begin(), dims.end()}, at, at + bytes});
    at += bytes;
  }
}

}  // namespace

std::vector<ExportFile> plan_files(const std::vector<WeightPlace>& places, Precision precision,
                                   std::int64_t shard_bytes) {
  std::vector<ExportFile> files;
  for (const WeightPlace& place : places) {
    const std::int64_t bytes = bytes_of(place, precision);
    if (files.empty() || files.back().bytes + bytes > shard_bytes) files.emplace_back();
    files.back().weights.push_back(place);
    files.back().bytes += bytes;
  }
  for (std::size_t i = 0; i < files.size(); ++i) {
    files[i].name = files.size() == 1 ? kSingleFile
                                      : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, files.size());
    fill_header(files[i], precision);
  }
  return files;
}

std::string format_index(const std::vector<ExportFile>& files) {
  nlohmann::ordered_json index;
  std::int64_t bytes = 0, elements = 0;
  for (const ExportFile& file : files) {
    bytes += file.bytes;
    for (const WeightPlace& weight : file.weights) elements += weight.shape.numel();
  }
  index["metadata"] = {{"total_parameters", elements}, {"total_size", bytes}};
  nlohmann::json by_name;  // sorted
  for (const ExportFile& file : files) {
    for (const WeightPlace& weight : file.weights) by_name[weight.hf_name] = file.name;
  }
  index["weight_map"] = by_name;
  return index.dump(2) + "\n";
}

}  // namespace jevons
