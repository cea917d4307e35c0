// Runs ops whose tensors lie in host memory on the device under test. On a GPU every byte that the arguments
// cover is copied there, the op runs on the copies, and they are copied back: aliases stay aliases, and a
// view keeps its alignment. The environment variable JEVONS_TEST_DEVICE=cuda asks for the GPU; a test body is
// the same on all devices.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <list>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "kernels/activation.h"
#include "kernels/attention.h"
#include "kernels/core/context.h"
#include "kernels/cross_entropy.h"
#include "kernels/decode_attention.h"
#include "kernels/heads.h"
#include "kernels/moe/balance.h"
#include "kernels/moe/routing.h"
#include "kernels/moe/slot_order.h"
#include "kernels/next_tokens.h"
#include "kernels/norm.h"
#include "kernels/optimizer.h"
#include "kernels/rope.h"

namespace jevons::test {

inline Device device_under_test() {
  const char* name = std::getenv("JEVONS_TEST_DEVICE");
  return name != nullptr && std::string_view(name) == "cuda" ? Device::kCuda : Device::kCpu;
}

// Calls f for every tensor inside an argument of an op.
template <class F, class T>
void visit_tensors(F& f, T& argument) {
  if constexpr (std::is_same_v<T, Tensor>) f(argument);
}
template <class F>
void visit_tensors(F& f, HeadView& view) {
  f(view.base);
}
template <class F>
void visit_tensors(F& f, CachePlaces& places) {
  f(places.slots), f(places.positions);
}
template <class F>
void visit_tensors(F& f, DecodeAttention& op) {
  f(op.q.base), f(op.k.base), f(op.v.base), f(op.o.base);
}
template <class F>
void visit_tensors(F& f, AttentionSaved& saved) {
  f(saved.q.base), f(saved.k.base), f(saved.v.base), f(saved.o.base), f(saved.lse);
  if (saved.doc_start.defined()) f(saved.doc_start);
}
template <class F>
void visit_tensors(F& f, AttentionGrads& grads) {
  f(grads.dq.base), f(grads.dk.base), f(grads.dv.base);
}
template <class F>
void visit_tensors(F& f, RmsNormSaved& saved) {
  f(saved.x), f(saved.w), f(saved.rstd);
}
template <class F>
void visit_tensors(F& f, HeadRmsNormSaved& saved) {
  f(saved.x.base), f(saved.w), f(saved.rstd);
}
template <class F>
void visit_tensors(F& f, AddRmsNormOutput& out) {
  f(out.h), f(out.y), f(out.rstd);
}
template <class F>
void visit_tensors(F& f, Rotation& by) {
  f(by.positions), f(by.cos), f(by.sin);
}
template <class F>
void visit_tensors(F& f, Targets& targets) {
  f(targets.ids);
}
template <class F>
void visit_tensors(F& f, SwigluInput& in) {
  f(in.gate_up), f(in.row_scale);
}
template <class F>
void visit_tensors(F& f, SequenceTokens& rows) {
  f(rows.tokens), f(rows.targets), f(rows.doc_start);
}
template <class F>
void visit_tensors(F& f, Choices& choices) {
  f(choices.model), f(choices.ahead), f(choices.targets);
}
template <class F>
void visit_tensors(F& f, RouterOutput& out) {
  f(out.scores), f(out.indices), f(out.weights);
}
template <class F>
void visit_tensors(F& f, RouterGrads& grads) {
  f(grads.d_weights), f(grads.d_scores), f(grads.dlogits);
}
template <class F>
void visit_tensors(F& f, BalanceLoads& loads) {
  f(loads.sequence), f(loads.micro_batch), f(loads.global);
}
template <class F>
void visit_tensors(F& f, OptimizerRange& range) {
  f(range.master), f(range.moment1), f(range.moment2), f(range.grad), f(range.weight);
}
template <class F>
void visit_tensors(F& f, SlotLists& out) {
  f(out.counts), f(out.out_of_range), f(out.send_index), f(out.slot_flat), f(out.slot_row), f(out.notes);
  if (out.dropped.defined()) f(out.dropped);
  if (out.token_row.defined()) f(out.token_row);
}
template <class F>
void visit_tensors(F& f, RowLists& out) {
  f(out.expand), f(out.wire_to_row), f(out.row_to_wire), f(out.contradiction);
  if (out.reduce_index.defined()) f(out.reduce_index);
}

class DeviceRun {
 public:
  DeviceRun()
      : stream_(Device::kCuda),
        work_(Device::kCuda, "work", &stream_),
        stash_(Device::kCuda, "stash", &stream_) {}

  // `host` with the GPU's stream and arenas in place of its own.
  template <class R, class... P>
  R run(Context host, R (*op)(const Context&, P...), std::decay_t<P>... arguments) {
    host.device = Device::kCuda, host.stream = &stream_, host.work = &work_, host.stash = &stash_;
    Copies copies(stream_);
    auto add = [&](Tensor& t) { copies.add(t); };
    (visit_tensors(add, arguments), ...);
    copies.upload();
    auto move = [&](Tensor& t) { copies.move(t); };
    (visit_tensors(move, arguments), ...);
    if constexpr (std::is_void_v<R>) {
      op(host, arguments...);
      copies.download();
    } else {
      const R result = op(host, arguments...);
      copies.download();
      return result;
    }
  }

 private:
  // Disjoint ranges of host memory, and their copies on the GPU.
  class Copies {
   public:
    explicit Copies(const Stream& stream) : stream_(stream) {}

    void add(const Tensor& t) {
      if (t.bytes() == 0) return;
      auto* begin = static_cast<std::uint8_t*>(t.data);
      ranges_.push_back({begin, begin + t.bytes(), {}});
    }
    void upload() {
      ranges_.sort([](const Range& a, const Range& b) { return a.begin < b.begin; });
      for (auto range = ranges_.begin(); range != ranges_.end(); ++range) {
        for (auto next = std::next(range); next != ranges_.end() && next->begin < range->end;) {
          range->end = std::max(range->end, next->end);
          next = ranges_.erase(next);
        }
        range->gpu = Buffer(Device::kCuda, range->offset() + range->bytes(), Contents::kUndefined);
        copy_and_wait(&stream_, range->on_gpu(), range->on_host());
      }
    }
    void move(Tensor& t) const {
      t.device = Device::kCuda;
      if (t.bytes() == 0) return;
      const auto* data = static_cast<std::uint8_t*>(t.data);
      const auto holds = [data](const Range& range) { return range.begin <= data && data < range.end; };
      const Range& range = *std::find_if(ranges_.begin(), ranges_.end(), holds);
      t.data = static_cast<std::uint8_t*>(range.on_gpu().data) + (data - range.begin);
    }
    void download() const {
      for (const Range& range : ranges_) copy_and_wait(&stream_, range.on_host(), range.on_gpu());
    }

   private:
    struct Range {
      std::uint8_t* begin;
      std::uint8_t* end;
      Buffer gpu;

      std::size_t bytes() const { return static_cast<std::size_t>(end - begin); }
      std::size_t offset() const { return reinterpret_cast<std::uintptr_t>(begin) % kAlignment; }
      Tensor on_gpu() const { return gpu.view(offset(), {end - begin}, DType::kU8); }
      Tensor on_host() const { return {begin, {end - begin}, DType::kU8, Device::kCpu}; }
    };
    const Stream& stream_;
    std::list<Range> ranges_;
  };

  Stream stream_;
  Arena work_, stash_;
};

}  // namespace jevons::test
