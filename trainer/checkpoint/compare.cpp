#include "trainer/checkpoint/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <utility>

#include "kernels/core/error.h"
#include "kernels/core/memory.h"
#include "trainer/io/format.h"

namespace jevons {
namespace {

using Kind = TensorDifference::Kind;

Buffer read_whole(const TensorSource& reader, const TensorEntry& entry) {
  Buffer memory(Device::kCpu, static_cast<std::size_t>(entry.shape.numel()) * size_of(entry.dtype));
  const std::vector<std::int64_t> origin(static_cast<std::size_t>(entry.shape.ndim()), 0);
  reader.read({{entry.name, entry.shape, origin, memory.view(0, entry.shape, entry.dtype)}});
  return memory;
}

template <class T>
double as_double(T value) {
  return static_cast<double>(value);
}
double as_double(bf16 value) {
  return static_cast<float>(value);
}

template <class T>
void compare_values(const Tensor& a, const Tensor& b, TensorDifference& difference) {
  const auto left = a.span<T>(), right = b.span<T>();
  for (std::size_t i = 0; i < left.size(); ++i) {
    if (std::memcmp(&left[i], &right[i], sizeof(T)) == 0) continue;
    difference.differing += 1;
    const double x = as_double(left[i]), y = as_double(right[i]);
    if (x == y) continue;  // +0 and -0
    const bool comparable = std::isfinite(x) && std::isfinite(y);
    const double absolute = comparable ? std::abs(x - y) : std::numeric_limits<double>::infinity();
    const double relative = comparable ? absolute / std::max(std::abs(x), std::abs(y)) : absolute;
    difference.max_absolute = std::max(difference.max_absolute, absolute);
    difference.max_relative = std::max(difference.max_relative, relative);
  }
}

void compare_typed(const Tensor& a, const Tensor& b, TensorDifference& difference) {
  switch (a.dtype) {
    case DType::kF32:
      return compare_values<float>(a, b, difference);
    case DType::kBF16:
      return compare_values<bf16>(a, b, difference);
    case DType::kF64:
      return compare_values<double>(a, b, difference);
    case DType::kI32:
      return compare_values<std::int32_t>(a, b, difference);
    case DType::kI64:
      return compare_values<std::int64_t>(a, b, difference);
    case DType::kU8:
      return compare_values<std::uint8_t>(a, b, difference);
  }
}

std::string type_of(const TensorEntry& entry) {
  return fmt::format("{} {}", name_of(entry.dtype), entry.shape.to_string());
}

TensorDifference compare_tensor(const TensorSource& a, const TensorEntry& in_a, const TensorSource& b,
                                const TensorEntry& in_b) {
  TensorDifference difference;
  difference.name = in_a.name;
  difference.elements = in_a.shape.numel();
  if (in_a.shape != in_b.shape || in_a.dtype != in_b.dtype) {
    difference.kind = Kind::kShape;
    difference.shapes = fmt::format("{}, {}", type_of(in_a), type_of(in_b));
    return difference;
  }
  const Buffer left = read_whole(a, in_a), right = read_whole(b, in_b);
  compare_typed(left.view(0, in_a.shape, in_a.dtype), right.view(0, in_b.shape, in_b.dtype), difference);
  if (difference.differing > 0) difference.kind = Kind::kValues;
  return difference;
}

TensorDifference only_in(Kind kind, const std::string& name) {
  TensorDifference difference;
  difference.name = name;
  difference.kind = kind;
  return difference;
}

std::vector<std::string> row_of(const TensorDifference& d) {
  switch (d.kind) {
    case Kind::kOnlyInA:
      return {d.name, "only in the first", "", ""};
    case Kind::kOnlyInB:
      return {d.name, "only in the second", "", ""};
    case Kind::kShape:
      return {d.name, d.shapes, "", ""};
    default:
      return {d.name, fmt::format("{} of {}", format_integer(d.differing), format_integer(d.elements)),
              fmt::format("{:.3g}", d.max_absolute), fmt::format("{:.3g}", d.max_relative)};
  }
}

}  // namespace

std::vector<TensorDifference> compare_tensors(const TensorSource& a, const TensorSource& b) {
  std::map<std::string, std::pair<const TensorEntry*, const TensorEntry*>> by_name;
  for (const TensorEntry& entry : a.tensors()) by_name[entry.name].first = &entry;
  for (const TensorEntry& entry : b.tensors()) by_name[entry.name].second = &entry;
  std::vector<TensorDifference> differences;
  for (const auto& [name, entries] : by_name) {
    const auto [in_a, in_b] = entries;
    if (in_a != nullptr && in_b != nullptr) {
      differences.push_back(compare_tensor(a, *in_a, b, *in_b));
    } else {
      differences.push_back(only_in(in_a != nullptr ? Kind::kOnlyInA : Kind::kOnlyInB, name));
    }
  }
  return differences;
}

std::string describe_differences(std::vector<TensorDifference> differences) {
  const std::size_t tensors = differences.size();
  std::erase_if(differences, [](const TensorDifference& d) { return d.kind == Kind::kEqual; });
  if (differences.empty()) return fmt::format("all {} tensors are equal, bit for bit\n", tensors);
  std::stable_sort(differences.begin(), differences.end(),
                   [](const TensorDifference& x, const TensorDifference& y) {
                     return std::pair(x.kind, x.max_relative) > std::pair(y.kind, y.max_relative);
                   });
  std::vector<std::vector<std::string>> rows = {
      {"tensor", "elements that differ", "max absolute", "max relative"}};
  for (const TensorDifference& difference : differences) rows.push_back(row_of(difference));
  return format_table(rows) + fmt::format("{} of {} tensors differ, {} are equal bit for bit\n",
                                          differences.size(), tensors, tensors - differences.size());
}

}  // namespace jevons
