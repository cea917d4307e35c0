#include "tests/state/checkpoint_bed.h"

#include <cstring>
#include <filesystem>
#include <functional>

#include "kernels/core/error.h"
#include "tests/state/scratch.h"
#include "tests/support/ranks.h"
#include "trainer/checkpoint/saver.h"

namespace jevons::test {
namespace {

struct GlobalTensor {
  const char* name;
  Shape shape;
  DType dtype;
};

const std::vector<GlobalTensor>& global_tensors() {
  static const std::vector<GlobalTensor> tensors = {{"layers.0.attn.q", {12, 10}, DType::kF32},
                                                    {"layers.0.norm", {9}, DType::kF32},
                                                    {"layers.1.moe.experts.3.up", {7, 5}, DType::kBF16},
                                                    {"optim.m.layers.0.attn.q", {12, 10}, DType::kF64},
                                                    {"cube", {6, 3, 4}, DType::kF32},
                                                    {"counts", {4, 4}, DType::kI64}};
  return tensors;
}

// Part `index` of [0, length) split into `parts`, the first ones longer by one.
std::pair<std::int64_t, std::int64_t> part_of(std::int64_t length, int parts, int index) {
  return {length * index / parts, length * (index + 1) / parts};
}

void add_slice(Holding& holding, const GlobalTensor& tensor, std::vector<std::int64_t> begin,
               const std::vector<std::int64_t>& end) {
  std::vector<std::int64_t> extent;
  for (std::size_t d = 0; d < begin.size(); ++d) extent.push_back(end[d] - begin[d]);
  holding.add(tensor.name, tensor.shape, std::move(begin), Shape(extent), tensor.dtype);
}

// Ranks form a grid over dim 0 and dim 1.
void add_cell(Holding& holding, const GlobalTensor& tensor, std::pair<int, int> grid, int rank) {
  std::vector<std::int64_t> begin(tensor.shape.dims().size()),
      end(tensor.shape.dims().begin(), tensor.shape.dims().end());
  std::tie(begin[0], end[0]) = part_of(tensor.shape[0], grid.first, rank / grid.second);
  if (tensor.shape.ndim() > 1) {
    std::tie(begin[1], end[1]) = part_of(tensor.shape[1], grid.second, rank % grid.second);
  } else if (rank % grid.second != 0) {
    return;
  }
  add_slice(holding, tensor, std::move(begin), end);
}

void add_flat(Holding& holding, const GlobalTensor& tensor, int size, int rank) {
  const auto [begin, end] = part_of(tensor.shape.numel(), size, rank);
  Buffer& memory = holding.memory.emplace_back(Device::kCpu, static_cast<std::size_t>(end - begin) * 8);
  const std::vector<std::int64_t> origin(tensor.shape.dims().size(), 0);
  for (TensorBox& box : boxes_of_flat_range(tensor.name, tensor.shape, origin, tensor.shape, begin,
                                            memory.view(0, {end - begin}, tensor.dtype))) {
    holding.boxes.push_back(std::move(box));
  }
}

// Calls f(element of the box, bytes of the element as they should be).
void for_each_element(const TensorBox& box, const std::function<void(std::byte*, const std::byte*)>& f) {
  const std::size_t width = size_of(box.local.dtype);
  std::vector<std::int64_t> at(box.offset.size(), 0);
  for (std::int64_t i = 0; i < box.local.numel(); ++i) {
    std::int64_t rest = i, index = 0, stride = 1;
    for (int d = box.local.shape.ndim() - 1; d >= 0; --d) {
      index += (rest % box.local.shape[d] + box.offset[static_cast<std::size_t>(d)]) * stride;
      rest /= box.local.shape[d];
      stride *= box.global_shape[d];
    }
    const std::uint64_t bits =
        (std::hash<std::string>{}(box.name) + static_cast<std::uint64_t>(index)) * 0x9e3779b97f4a7c15u;
    f(static_cast<std::byte*>(box.local.data) + static_cast<std::size_t>(i) * width,
      reinterpret_cast<const std::byte*>(&bits));
  }
}

}  // namespace

void Holding::add(const std::string& name, Shape global, std::vector<std::int64_t> offset, Shape extent,
                  DType dtype) {
  Buffer& buffer = memory.emplace_back(Device::kCpu, static_cast<std::size_t>(extent.numel()) * 8);
  boxes.push_back({name, global, std::move(offset), buffer.view(0, extent, dtype)});
}

Holding holding_of(int rank, int size, Sharding sharding) {
  Holding holding;
  for (const GlobalTensor& tensor : global_tensors()) {
    switch (sharding) {
      case Sharding::kRows:
        add_cell(holding, tensor, {size, 1}, rank);
        break;
      case Sharding::kColumns:
        add_cell(holding, tensor, {1, size}, rank);
        break;
      case Sharding::kGrid:
        add_cell(holding, tensor, {2, size / 2}, rank);
        break;
      case Sharding::kFlat:
        if (tensor.shape.ndim() > 2) {
          add_cell(holding, tensor, {size, 1}, rank);
        } else {
          add_flat(holding, tensor, size, rank);
        }
        break;
    }
  }
  return holding;
}

void fill(const TensorBox& box) {
  const std::size_t width = size_of(box.local.dtype);
  for_each_element(box, [&](std::byte* here, const std::byte* wanted) { std::memcpy(here, wanted, width); });
}

void poison(const TensorBox& box) {
  std::memset(box.local.data, 0xAB, box.local.bytes());
}

std::string difference(const TensorBox& box) {
  const std::size_t width = size_of(box.local.dtype);
  std::int64_t wrong = 0;
  for_each_element(
      box, [&](std::byte* here, const std::byte* wanted) { wrong += std::memcmp(here, wanted, width) != 0; });
  return wrong == 0 ? "" : fmt::format("{}: {} wrong elements", box.name, wrong);
}

TrainState some_state(std::int64_t step) {
  return {step, 1234567890123u, 42, step - 1, {{"config", "a: 1\nb: 2"}, {"layout", "dp 2, tp 1, ep 2"}}};
}

std::string save_checkpoint(Communicator& world, const std::string& dir, const TrainState& state,
                            const std::vector<TensorBox>& boxes) {
  CheckpointSaver saver(world, dir);
  saver.begin(state, boxes, Originals::kLent);
  return saver.commit().path;
}

std::string save_filled(const std::string& dir, const TrainState& state, int ranks, Sharding sharding) {
  return run_ranks(ranks,
                   [&](Communicator& world) {
                     const Holding holding = holding_of(world.rank(), world.size(), sharding);
                     for (const TensorBox& box : holding.boxes) fill(box);
                     return save_checkpoint(world, dir, state, holding.boxes);
                   })
      .front();
}

std::map<std::string, std::string> files_of(const std::string& directory) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    files[entry.path().filename().string()] = contents_of(entry.path());
  }
  return files;
}

}  // namespace jevons::test
