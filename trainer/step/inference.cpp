#include "trainer/step/inference.h"

#include <algorithm>

#include "kernels/elementwise.h"
#include "parallel/agree.h"

namespace jevons {

InferenceWorker::InferenceWorker(const RunConfig& config, Communicator& world, const ComputePlace& place)
    : config_(config),
      stash_(place.device, "stash", place.stream),
      work_(place.device, "work", place.stream),
      ctx_{.device = place.device,
           .modelled = place.modelled,
           .compute = compute_dtype(config.train.precision),
           .stash = &stash_,
           .work = &work_,
           .listener = place.listener,
           .stream = place.stream,
           .threads = std::max(1, config.threads)},
      mesh_(world, config.parallel.layout),
      store_(mesh_, place.device, ctx_.compute),
      model_(store_, config.model) {
  store_.allocate(GradSources::kNone);
  mesh_.set_listener(place.listener);
}

void InferenceWorker::load(const TensorSource& source) {
  agree(mesh_.world(), [&] {
    for (ParamId id = 0; id < store_.params().size(); ++id) {
      const Param& param = store_.params()[id];
      if (param.owner) continue;
      std::vector<std::int64_t> offset(static_cast<std::size_t>(param.spec.shape.ndim()), 0);
      if (param.spec.tp_dim >= 0) offset[static_cast<std::size_t>(param.spec.tp_dim)] = param.tp_offset;
      read(source, {param.spec.name, param.spec.shape, std::move(offset), store_.weight(id)});
    }
    for (const StateTensor& state : model_.state()) {
      const auto dims = static_cast<std::size_t>(state.value.shape.ndim());
      read(source, {state.name, state.value.shape, std::vector<std::int64_t>(dims, 0), state.value});
    }
  });
}

// By way of fp32 on the host.
void InferenceWorker::read(const TensorSource& source, TensorBox box) const {
  const Tensor to = box.local;
  if (to.device == Device::kCpu && to.dtype == DType::kF32) return source.read({box});
  const Context host{.threads = ctx_.threads};
  const Buffer memory(Device::kCpu, static_cast<std::size_t>(to.numel()) * sizeof(float),
                      Contents::kUndefined);
  box.local = memory.view(0, to.shape, DType::kF32);
  source.read({box});
  if (to.dtype == DType::kF32) return copy_and_wait(ctx_.stream, to, box.local);
  if (to.device == Device::kCpu) return cast(host, box.local, to);
  const Buffer narrow(Device::kCpu, to.bytes(), Contents::kUndefined);
  const Tensor rounded = narrow.view(0, to.shape, to.dtype);
  cast(host, box.local, rounded);
  copy_and_wait(ctx_.stream, to, rounded);
}

void InferenceWorker::reset_arenas() {
  stash_.reset();
  work_.reset();
}

void InferenceWorker::finish_passes() {
  model_.fetch_reports(ctx_);
  ctx_.synchronise();
  model_.check_reports();
}

}  // namespace jevons
