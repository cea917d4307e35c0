#include "trainer/step/run_state.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <string>

#include "parallel/agree.h"
#include "trainer/step/model_boxes.h"

namespace jevons {
namespace {

enum class Part { kWeights, kAll };

FlatRange common(FlatRange a, FlatRange b) {
  const std::int64_t begin = std::max(a.begin, b.begin);
  return {begin, std::max<std::int64_t>(0, std::min(a.end(), b.end()) - begin)};
}

// Boxes of what the optimizer keeps.
class BoxCollector {
 public:
  BoxCollector(Worker& worker, Part part) : worker_(worker), part_(part) {}

  // Of what of `kept` lies in elements [range.begin, range.end) of its group's flat buffers.
  void add(const Optimizer::Part& kept, FlatRange range) {
    for (const ParamPiece& piece : worker_.store().pieces(kept.group, common(kept.range, range))) {
      add("", piece, kept.range, kept.master);
      if (part_ == Part::kWeights) continue;
      for (std::size_t i = 0; i < kept.state.size(); ++i)
        add(kept.prefixes[i], piece, kept.range, kept.state[i]);
    }
  }

  std::vector<TensorBox> take() { return std::move(boxes_); }

 private:
  // `flat`: over `range` of the group.
  void add(const std::string& prefix, const ParamPiece& piece, FlatRange range, Tensor flat) {
    std::ranges::move(boxes_of(worker_.store(), piece, range, flat, prefix), std::back_inserter(boxes_));
  }

  Worker& worker_;
  Part part_;
  std::vector<TensorBox> boxes_;
};

void add_model_state(Worker& worker, std::vector<TensorBox>& boxes) {
  std::ranges::move(boxes_of_state(worker.stages()), std::back_inserter(boxes));
}

std::vector<TensorBox> boxes_to_restore(Worker& worker, Part part) {
  BoxCollector collector(worker, part);
  for (const Optimizer::Part& kept : worker.optimizer().parts()) collector.add(kept, kept.range);
  std::vector<TensorBox> boxes = collector.take();
  add_model_state(worker, boxes);
  return boxes;
}

void fill(Worker& worker, const TensorSource& source, const std::vector<TensorBox>& boxes) {
  agree(worker.mesh().world(), [&] { read_boxes(worker.ctx(), source, boxes); });
  worker.optimizer().publish_weights(worker.ctx());
  worker.reducer().gather_weights(worker.ctx());
}

// Whether the source has a dense FFN where this model has experts and a router.
bool is_dense_in(const TensorSource& source, const std::string& name, const std::string& dense_counterpart) {
  return !dense_counterpart.empty() && !source.has(name) && source.has(dense_counterpart);
}

}  // namespace

std::vector<TensorBox> boxes_to_save(Worker& worker) {
  BoxCollector collector(worker, Part::kAll);
  for (const Optimizer::Part& kept : worker.optimizer().parts()) {
    const ParamGroup& group = worker.store().groups()[kept.group];
    collector.add(kept, {group.shard_begin(), group.shard_numel()});
  }
  std::vector<TensorBox> boxes = collector.take();
  if (worker.mesh().stage().rank() == 0) add_model_state(worker, boxes);
  return boxes;
}

void restore(Worker& worker, const TensorSource& source) {
  fill(worker, source, boxes_to_restore(worker, Part::kAll));
}

std::int64_t restore_weights(Worker& worker, const TensorSource& source) {
  std::map<std::string, std::string> from_dense;  // by name: the weight to read instead; empty: none
  std::int64_t layers = 0;
  for (const Param& param : worker.store().params()) {
    const ParamSpec& spec = param.spec;
    if (!is_dense_in(source, spec.name, spec.dense_counterpart)) continue;
    from_dense[spec.name] = spec.expert ? spec.dense_counterpart : "";
    if (!spec.expert) ++layers;  // each has one router
  }
  for (const StateTensor& state : worker.stages().state()) {
    if (is_dense_in(source, state.name, state.dense_counterpart)) from_dense[state.name] = "";
  }
  std::vector<TensorBox> boxes;
  for (TensorBox& box : boxes_to_restore(worker, Part::kWeights)) {
    const auto found = from_dense.find(box.name);
    if (found != from_dense.end()) box.name = found->second;
    if (!box.name.empty()) boxes.push_back(std::move(box));
  }
  fill(worker, source, boxes);
  return layers;
}

}  // namespace jevons
