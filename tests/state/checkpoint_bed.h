// A small set of global tensors with known contents, and ways to shard them over ranks.
#pragma once

#include <deque>
#include <map>
#include <string>
#include <vector>

#include "kernels/core/memory.h"
#include "parallel/communicator.h"
#include "trainer/checkpoint/checkpoint.h"

namespace jevons::test {

// Boxes of one rank and the memory they lie in.
struct Holding {
  std::deque<Buffer> memory;
  std::vector<TensorBox> boxes;

  void add(const std::string& name, Shape global, std::vector<std::int64_t> offset, Shape extent,
           DType dtype);
};

// Every way splits the tensors differently and covers each exactly once over `size` ranks:
// kRows by rows, kColumns by columns (2 dims and more), kFlat by equal ranges of the flat tensor, as ZeRO
// does, and kGrid by rows and columns on 4 ranks.
enum class Sharding { kRows, kColumns, kFlat, kGrid };
Holding holding_of(int rank, int size, Sharding sharding);

// The bytes of a box, a function of the tensor's name and the global place of each element.
void fill(const TensorBox& box);
void poison(const TensorBox& box);
// The first difference from fill(), or "".
std::string difference(const TensorBox& box);

TrainState some_state(std::int64_t step);

// Saves and waits. Collective; returns the checkpoint's path.
std::string save_checkpoint(Communicator& world, const std::string& dir, const TrainState& state,
                            const std::vector<TensorBox>& boxes);

// Saves filled boxes from `ranks` ranks; returns the checkpoint's path.
std::string save_filled(const std::string& dir, const TrainState& state, int ranks, Sharding sharding);

// Every file of a directory, by name.
std::map<std::string, std::string> files_of(const std::string& directory);

}  // namespace jevons::test
