#include "trainer/checkpoint/snapshot.h"

#include <algorithm>

#include "kernels/core/error.h"
#include "trainer/checkpoint/manifest.h"

namespace jevons {
namespace {

bool is_good_name(const std::string& name) {
  const auto good = [](char c) { return c > ' ' && c <= '~' && c != '@' && c != '"' && c != '\\'; };
  return !name.empty() && name != "__metadata__" && std::all_of(name.begin(), name.end(), good);
}

void check_box(const TensorBox& box, const Box& place) {
  ENSURE(is_good_name(box.name), "checkpoint: '{}' cannot be a tensor's name", box.name);
  ENSURE(box.local.device != Device::kMeta, "checkpoint: '{}' is {}, it has no memory", box.name,
         box.local.to_string());
  ENSURE(box.global_shape.ndim() > 0 && box.global_shape.numel() > 0, "checkpoint: '{}' is empty", box.name);
  ENSURE(inside(place, box.global_shape), "checkpoint: '{}' {} of shape {} lies outside its tensor {}",
         box.name, place.to_string(), box.local.shape.to_string(), box.global_shape.to_string());
}

std::size_t aligned(std::size_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace

std::vector<Piece> pieces_of(const std::vector<TensorBox>& boxes) {
  std::vector<Piece> pieces;
  for (const TensorBox& source : boxes) {
    const auto extent = source.local.shape.dims();
    Box place{source.offset, {extent.begin(), extent.end()}};
    check_box(source, place);
    if (source.local.numel() == 0) continue;
    std::string key = box_key(source.name, source.global_shape, place);
    pieces.push_back({source.name, source.global_shape, std::move(place), std::move(key), source.local});
  }
  std::sort(pieces.begin(), pieces.end(), [](const Piece& a, const Piece& b) {
    const std::size_t width_a = size_of(a.host.dtype), width_b = size_of(b.host.dtype);
    return width_a != width_b ? width_a > width_b : a.key < b.key;
  });
  return pieces;
}

void Snapshot::take(const std::vector<TensorBox>& boxes, const Stream* stream, Originals originals) {
  pieces_ = pieces_of(boxes);
  const auto is_copied = [&](const Piece& piece) {
    return originals == Originals::kCopied || piece.host.device != Device::kCpu;
  };
  std::size_t bytes = 0;
  Device device = Device::kCpu;
  for (const Piece& piece : pieces_) {
    if (is_copied(piece)) bytes += aligned(piece.host.bytes());
    if (piece.host.device == Device::kCuda) device = Device::kCuda;
  }
  if (bytes > memory_.bytes()) {
    memory_ = {};  // never both
    memory_ = device == Device::kCuda ? Buffer::pinned_for(device, bytes)
                                      : Buffer(device, bytes, Contents::kUndefined);
  }
  std::size_t at = 0;
  for (Piece& piece : pieces_) {
    if (!is_copied(piece)) continue;
    const Tensor copy = memory_.view(at, piece.host.shape, piece.host.dtype);
    copy_async(stream, copy, piece.host);
    at += aligned(piece.host.bytes());
    piece.host = copy;
  }
  if (device == Device::kCuda) stream->synchronise();
}

}  // namespace jevons
