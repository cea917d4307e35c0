#include "trainer/hf/export_plan.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "trainer/hf/shards.h"

namespace jevons {
namespace {

DType type_of(Precision precision) {
  return precision == Precision::kBF16 ? DType::kBF16 : DType::kF32;
}

}  // namespace

std::vector<ExportFile> plan_files(const std::vector<WeightPlace>& places, Precision precision,
                                   std::int64_t shard_bytes) {
  std::vector<ExportFile> files;
  for (const WeightPlace& place : places) {
    const DType dtype = type_of(precision);
    const std::int64_t bytes = place.shape.numel() * static_cast<std::int64_t>(size_of(dtype));
    if (files.empty() || files.back().bytes + bytes > shard_bytes) {
      // Readers of transformers want this format.
      files.push_back({.name = {}, .weights = {}, .header = {.metadata = {{"format", "pt"}}, .entries = {}}});
    }
    ExportFile& file = files.back();
    const auto dims = place.shape.dims();
    const auto at = static_cast<std::uint64_t>(file.bytes);
    file.header.entries.push_back(
        {place.hf_name, dtype, {dims.begin(), dims.end()}, at, at + static_cast<std::uint64_t>(bytes)});
    file.weights.push_back(place);
    file.bytes += bytes;
  }
  for (std::size_t i = 0; i < files.size(); ++i) {
    files[i].name = files.size() == 1 ? kSingleFile
                                      : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, files.size());
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
