// What of a model lies on this rank, as boxes of global tensors, and how boxes are read: for checkpoints of
// training (run_state.h) and for weights alone (inference.h).
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kernels/core/context.h"
#include "parallel/param_store.h"
#include "trainer/io/tensor_source.h"
#include "trainer/model/local_stages.h"

namespace jevons {

// Those of what `flat`, over `range` of the piece's group, holds of the piece. The tensor's name is the
// weight's behind `prefix`.
std::vector<TensorBox> boxes_of(const ParamStore& store, const ParamPiece& piece, FlatRange range,
                                Tensor flat, const std::string& prefix = "");

// Those of the model's state, the same on every rank of a stage.
std::vector<TensorBox> boxes_of_state(const LocalStages& stages);

// Fills the boxes from tensors that are stored in `stored`; nothing: each in its own dtype. Those on a GPU or
// in another dtype go through host memory, a part of them at a time. Not collective; throws Error(kData) if a
// tensor is missing or has another shape.
void read_boxes(const Context& ctx, const TensorSource& source, std::span<const TensorBox> boxes,
                std::optional<DType> stored = std::nullopt);

}  // namespace jevons
