// Descriptors of cuDNN's backend C API as they were set, and the value of a graph of them. Every operation is
// evaluated by itself, in fp32, rounded where a tensor inside the graph is bf16; so a wrong stride, operand
// or mask in a graph gives wrong numbers.
#pragma once

#include <cudnn.h>

#include <cstdint>
#include <cstring>
#include <map>
#include <vector>

namespace emulation {

struct Descriptor {
  cudnnBackendDescriptorType_t type;
  std::map<int, std::vector<char>> attributes;
  bool has(cudnnBackendAttributeName_t name) const { return attributes.contains(name); }
  template <class T>
  T get(cudnnBackendAttributeName_t name, std::size_t i = 0) const {
    T value{};
    std::memcpy(&value, attributes.at(name).data() + i * sizeof(T), sizeof value);
    return value;
  }
  const Descriptor& child(cudnnBackendAttributeName_t name, std::size_t i = 0) const {
    return *get<const Descriptor*>(name, i);
  }
};

// Runs the operations of a graph. `memory` and `scalars` by the ids of its tensors.
void evaluate(const Descriptor& graph, const std::map<std::int64_t, char*>& memory,
              const std::map<std::int64_t, float>& scalars);

}  // namespace emulation
