// Tokens further ahead, and the choices of heads.
#pragma once

#include "kernels/row/block.h"
#include "kernels/row/instances.h"
#include "kernels/row/scalar.h"

namespace jevons {

// The targets `by` rows ahead, -1 where there is none.
struct TargetsAhead {
  const std::int32_t* targets;
  const std::int32_t* doc_start;  // null: no document mask
  std::int64_t length, by;

  JEVONS_HD std::int64_t position(std::int64_t row) const { return divide(row, length).remainder; }
  JEVONS_HD std::int32_t operator[](std::int64_t row) const {
    const std::int64_t here = position(row);
    if (here + by >= length || (doc_start != nullptr && doc_start[row + by] > here)) return -1;
    return targets[row + by];
  }
};

struct LookAheadKernel {
  TargetsAhead source;
  const std::int32_t* tokens;
  std::int32_t* ids;
  std::int32_t* targets;
  std::int64_t rows;

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t index) const {
    const Block block = block_at(index, rows);
    group.each(block.size, [=, *this](std::int64_t i) {
      const std::int64_t row = block.begin + i;
      const bool inside = source.position(row) + source.by < source.length;
      ids[row] = tokens[inside ? row + source.by : row];
      targets[row] = source[row];
    });
  }
};

// best (rows, 2) = {largest logit, its token}.
template <class T>
struct BestTokensKernel {
  using A = accumulator_t<T>;
  const T* logits;  // (rows, cols)
  A* best;
  std::int64_t cols, vocab_begin;

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t row) const {
    const T* x = logits + row * cols;
    const auto found = group.best(
        cols, [](std::int64_t) { return true; }, [x](std::int64_t i) { return load(x, i); });
    group.once([&] {
      A* out = best + row * 2;
      out[0] = found.value;
      out[1] = static_cast<A>(found.index < 0 ? -1 : vocab_begin + found.index);
    });
  }
};

// Each call works on one block of rows.
template <class A>
struct BestOfPartsKernel {
  const A* gathered;  // (parts, rows, 2)
  std::int32_t* tokens;
  std::int64_t parts, rows;

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t index) const {
    const Block block = block_at(index, rows);
    group.each(block.size, [=, *this](std::int64_t i) {
      const std::int64_t row = block.begin + i;
      const A* part = gathered + row * 2;
      A value = part[0], token = part[1];
      for (std::int64_t p = 1; p < parts; ++p) {
        part += rows * 2;
        if (token < 0 || (part[1] >= 0 && part[0] > value)) value = part[0], token = part[1];
      }
      tokens[row] = static_cast<std::int32_t>(token);
    });
  }
};

// A target says that row + by lies in the same sequence.
struct AgreementKernel {
  const std::int32_t* model;
  const std::int32_t* ahead;
  const std::int32_t* targets;
  float* agrees;
  std::int64_t rows, by;

  template <class Group>
  JEVONS_HD void operator()(const Group& group, std::int64_t index) const {
    const Block block = block_at(index, rows);
    group.each(block.size, [=, *this](std::int64_t i) {
      const std::int64_t row = block.begin + i;
      agrees[row] = targets[row] >= 0 && ahead[row] >= 0 && ahead[row] == model[row + by] ? 1.0F : 0.0F;
    });
  }
};

}  // namespace jevons

#define JEVONS_NEXT_TOKENS_KERNELS(X)           \
  X(LookAheadKernel)                            \
  JEVONS_FOR_FLOATS(X, BestTokensKernel)        \
  JEVONS_FOR_ACCUMULATORS(X, BestOfPartsKernel) \
  X(AgreementKernel)
