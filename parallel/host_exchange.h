// What the hosts of a job tell each other besides tensors: numbers and texts in host memory, over any
// communicator. All calls are collective, and return when the exchange is done.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "parallel/communicator.h"

namespace jevons {

// Host memory as a tensor: numbers by their type, anything else as bytes.
template <class T, std::size_t N>
Tensor host_tensor(std::span<T, N> values) {
  static_assert(std::is_trivially_copyable_v<T>);
  if constexpr (requires { dtype_of<T>::value; }) {
    return {values.data(), {std::ssize(values)}, dtype_of<T>::value, Device::kCpu};
  } else {
    return {values.data(), {static_cast<std::int64_t>(values.size_bytes())}, DType::kU8, Device::kCpu};
  }
}

// Every one of `values` becomes its sum, maximum or minimum over the ranks of `group`.
template <class T, std::size_t N>
void all_reduce(Communicator& group, std::span<T, N> values, ReduceOp op = ReduceOp::kSum) {
  group.all_reduce(host_tensor(values), op).wait();
}

// The sum, maximum or minimum of every rank's value.
template <class T>
T all_reduce(Communicator& group, T value, ReduceOp op = ReduceOp::kSum) {
  all_reduce(group, std::span(&value, 1), op);
  return value;
}

// `mine` of every rank, of one length on all of them, one after another by rank.
template <class T, std::size_t N>
std::vector<T> all_gather(Communicator& group, std::span<T, N> mine) {
  std::vector<T> all(mine.size() * static_cast<std::size_t>(group.size()));
  group.all_gather(host_tensor(mine), host_tensor(std::span(all))).wait();
  return all;
}

// The value of `root`, on every rank.
template <class T>
T broadcast(Communicator& group, T value, int root = 0) {
  group.broadcast(host_tensor(std::span(&value, 1)), root).wait();
  return value;
}
// What `root` sees, of a file system say, decides.
std::string broadcast_text(Communicator& group, std::string text, int root = 0);

// `text` of every rank, by rank.
std::vector<std::string> all_gather_texts(Communicator& group, const std::string& text);
// `text` of every rank, by rank, on rank 0; nothing on the others. For long texts.
std::vector<std::string> gather_texts(Communicator& group, std::string text);

// "0, 2-5" with "rank " or "ranks " before it; `ranks` ascend.
std::string list_ranks(const std::vector<int>& ranks);

// "node1 (ranks 0-1) and node2 (ranks 2-3)", in order of first appearance; of more than eight hosts the first
// eight and the number of the others. `hosts`: name of the host of every rank.
std::string list_hosts(const std::vector<std::string>& hosts);

}  // namespace jevons
