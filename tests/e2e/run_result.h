// What a finished run left behind: losses, gradient norms, weights.
#pragma once

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/support/catch.h"
#include "trainer/checkpoint/checkpoint.h"

namespace jevons::test {

struct Result {
  std::vector<double> losses, norms;
  std::map<std::string, std::vector<float>> weights;
};

inline Result result_of(const std::string& run) {
  Result result;
  std::ifstream file(run + "/metrics.jsonl");
  for (std::string line; std::getline(file, line);) {
    const auto record = nlohmann::json::parse(line);
    if (record["kind"] != "step") continue;
    result.losses.push_back(record["loss"]), result.norms.push_back(record["grad_norm"]);
  }
  const CheckpointReader reader(find_checkpoint(run));
  for (const TensorEntry& tensor : reader.tensors()) {
    std::vector<float>& values = result.weights[tensor.name];
    values.resize(static_cast<std::size_t>(tensor.shape.numel()));
    const auto dims = static_cast<std::size_t>(tensor.shape.ndim());
    reader.read({{tensor.name,
                  tensor.shape,
                  std::vector<std::int64_t>(dims, 0),
                  {values.data(), tensor.shape, DType::kF32, Device::kCpu}}});
  }
  return result;
}

inline double largest(const std::vector<float>& values) {
  double most = 0;
  for (float v : values) most = std::max(most, std::abs(static_cast<double>(v)));
  return most;
}

inline double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  double most = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    most = std::max(most, std::abs(static_cast<double>(a[i]) - b[i]));
  return most;
}

}  // namespace jevons::test
