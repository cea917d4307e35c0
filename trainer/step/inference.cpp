#include "trainer/step/inference.h"

#include <algorithm>
#include <iterator>

#include "parallel/agree.h"
#include "trainer/step/model_boxes.h"

namespace jevons {

InferenceWorker::InferenceWorker(const RunConfig& config, Communicator& world, const ComputePlace& place,
                                 const TensorSource& weights)
    : ModelWorker(config, world, place, nullptr) {
  with_memory_report([&] { store().allocate(GradSources::kNone); });
  std::vector<TensorBox> boxes = boxes_of_state(stages());
  for (std::size_t g = 0; g < store().groups().size(); ++g) {
    const ParamGroup& group = store().groups()[g];
    if (!group.weights.defined()) continue;  // a copy: what its owner reads
    const FlatRange whole{0, group.numel};
    for (const ParamPiece& piece : store().pieces(g))
      std::ranges::move(boxes_of(store(), piece, whole, group.weights), std::back_inserter(boxes));
  }
  agree(world, [&] { read_boxes(ctx(), weights, boxes, DType::kF32); });
}

}  // namespace jevons
