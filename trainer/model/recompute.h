// What of a block's inside outlives its forward pass. Layers say of every tensor that they save what it takes
// to make it again; the block alone decides by the mode of recompute which are kept.
#pragma once

#include <cstdint>

#include "trainer/model/layer.h"
#include "trainer/model/model_config.h"

namespace jevons {

enum class SavedKind : std::uint8_t {
  kChoice,    // what was decided, a routing say: never made again
  kProduct,   // made again by matrix products, attention or an exchange
  kCheap,     // made again by a norm, a gather or elementwise work
  kGradient,  // of backward_input for backward_weight; does not exist before
};

inline bool outlives_forward(SavedKind kind, Recompute mode) {
  switch (mode) {
    case Recompute::kNone:
      return true;
    case Recompute::kSelective:
      return kind != SavedKind::kCheap;
    case Recompute::kFull:
      return kind == SavedKind::kChoice;
  }
  return true;
}

// Where forward puts what backward needs, by its kind: contexts whose stash is the pass's, or its work for
// what is made again. They are alike otherwise.
struct Keep {
  Context choices, products, cheap;
};

inline Keep keep_of(const Context& ctx, Recompute mode) {
  const auto place = [&](SavedKind kind) { return outlives_forward(kind, mode) ? ctx : scratch(ctx); };
  return {place(SavedKind::kChoice), place(SavedKind::kProduct), place(SavedKind::kCheap)};
}

}  // namespace jevons
