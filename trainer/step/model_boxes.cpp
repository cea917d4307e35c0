#include "trainer/step/model_boxes.h"

#include "kernels/elementwise.h"

namespace jevons {
namespace {

// Bytes that are on their way through host memory at once, but for a box that is larger.
constexpr std::size_t kPart = std::size_t{64} << 20;

// from: in host memory.
void move_to(const Context& ctx, Tensor from, Tensor to) {
  if (from.dtype == to.dtype) return copy_and_wait(ctx.stream, to, from);
  const Context host{.threads = ctx.threads};
  if (to.device == Device::kCpu) return cast(host, from, to);
  const Buffer memory(Device::kCpu, to.bytes(), Contents::kUndefined);
  const Tensor rounded = memory.view(0, to.shape, to.dtype);
  cast(host, from, rounded);
  copy_and_wait(ctx.stream, to, rounded);
}

// Boxes by way of host memory, where they have the dtype that is stored.
class Passage {
 public:
  Passage(const Context& ctx, const TensorSource& source) : ctx_(ctx), source_(source) {}

  void add(TensorBox box, DType stored) {
    const std::size_t bytes = static_cast<std::size_t>(box.local.numel()) * size_of(stored);
    if (bytes_ > 0 && bytes_ + bytes > kPart) pass();
    to_.push_back(box.local);
    memory_.emplace_back(Device::kCpu, bytes, Contents::kUndefined);
    bytes_ += bytes;
    box.local = memory_.back().view(0, box.local.shape, stored);
    boxes_.push_back(std::move(box));
  }
  void pass() {
    source_.read(boxes_);
    for (std::size_t i = 0; i < boxes_.size(); ++i) move_to(ctx_, boxes_[i].local, to_[i]);
    boxes_.clear(), to_.clear(), memory_.clear();
    bytes_ = 0;
  }

 private:
  const Context& ctx_;
  const TensorSource& source_;
  std::vector<TensorBox> boxes_;
  std::vector<Tensor> to_;
  std::vector<Buffer> memory_;
  std::size_t bytes_ = 0;
};

}  // namespace

std::vector<TensorBox> boxes_of(const ParamStore& store, const ParamPiece& piece, FlatRange range,
                                Tensor flat, const std::string& prefix) {
  const Param& p = store.params()[piece.id];
  std::vector<std::int64_t> offset(static_cast<std::size_t>(p.spec.shape.ndim()), 0);
  if (p.spec.tp_dim >= 0) offset[static_cast<std::size_t>(p.spec.tp_dim)] = p.tp_offset;
  const Tensor elements = flat.slice(piece.begin - range.begin, piece.end - range.begin);
  return boxes_of_flat_range(prefix + p.spec.name, p.spec.shape, offset, p.local_shape,
                             piece.begin - p.flat_begin, elements);
}

std::vector<TensorBox> boxes_of_state(const LocalStages& stages) {
  std::vector<TensorBox> boxes;
  for (const StateTensor& s : stages.state()) {
    const auto dims = static_cast<std::size_t>(s.value.shape.ndim());
    boxes.push_back({s.name, s.value.shape, std::vector<std::int64_t>(dims, 0), s.value});
  }
  return boxes;
}

void read_boxes(const Context& ctx, const TensorSource& source, std::span<const TensorBox> boxes,
                std::optional<DType> stored) {
  std::vector<TensorBox> in_place;
  Passage others(ctx, source);
  for (const TensorBox& box : boxes) {
    const DType dtype = stored.value_or(box.local.dtype);
    if (box.local.device == Device::kCpu && box.local.dtype == dtype)
      in_place.push_back(box);
    else
      others.add(box, dtype);
  }
  source.read(in_place);
  others.pass();
}

}  // namespace jevons
