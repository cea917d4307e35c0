#include "trainer/step/model_worker.h"

#include <algorithm>

#include "kernels/core/error.h"
#include "parallel/nccl/device_world.h"

namespace jevons {
namespace {

// Of the accumulator dtype too: the router computes in it.
void check_layout_invariance(Device device, DType compute) {
  ENSURE(device != Device::kCuda, "layout-invariant numerics on a GPU");
  for (DType dtype : {compute, accumulator_of(compute)}) require_row_invariance(gemm_backend(dtype));
}

// Every group of several ranks has a communicator of its own.
std::size_t communication_bytes(Mesh& mesh) {
  std::size_t bytes = 0;
  for (const Communicator* c : mesh.groups())
    if (c->size() > 1) bytes += nccl::kScratchBytes + nccl::kLibraryBytes;
  return bytes;
}

}  // namespace

DType compute_dtype(Precision precision) {
  return precision == Precision::kBF16 ? DType::kBF16 : DType::kF32;
}

void require_row_invariance(const GemmBackend& backend) {
  if (backend.row_invariant) return;
  fail(ExitCode::kUsage,
       "numerics = layout_invariant: matrix products on this CPU are by {}, where a row's bits may depend on "
       "the other rows; it takes a CPU with AVX-512, and AVX512_BF16 for train.precision = bf16",
       backend.name);
}

ModelWorker::ModelWorker(const RunConfig& config, Communicator& world, const ComputePlace& place,
                         PhaseClock* clock)
    : config_(config),
      stashes_(place.device, place.stream),
      work_(place.device, "work", place.stream),
      inbox_(place.device, "inbox", place.stream),
      pair_work_(place.device, "work of pairs", place.stream),
      ctx_{.device = place.device,
           .modelled = place.modelled,
           .compute = compute_dtype(config.train.precision),
           .stash = &stashes_.first(),
           .work = &work_,
           .listener = place.listener,
           .clock = clock,
           .whereabouts = clock != nullptr ? clock->whereabouts() : nullptr,
           .stream = place.stream,
           .threads = std::max(1, config.threads)},
      mesh_(world, config.parallel.layout),
      store_(mesh_, place.device, ctx_.compute, config.parallel.bucket_mib << 20),
      plan_(config, mesh_.pp().rank()),
      stages_(store_, config.model, plan_.ranges()),
      figures_(place.device, DType::kF64, num_figures(config.model)) {
  if (config.numerics == Numerics::kLayoutInvariant) check_layout_invariance(place.device, ctx_.compute);
  mesh_.set_listener(place.listener);
}

PipelineRank ModelWorker::pipeline() {
  PipelineRank rank{
      .stashes = &stashes_,
      .pp = mesh_.pp().size() > 1 ? &mesh_.pp() : nullptr,
      .inbox = &inbox_,
      .pair_work = &pair_work_,
      .message_rows = sequences_per_pass() * config_.model.seq_len / (mesh_.cp().size() * mesh_.tp().size())};
  std::size_t i = 0;
  for (Stage& stage : stages_.all()) rank.stages.push_back({&stage, plan_.numbers()[i++]});
  return rank;
}

void ModelWorker::reset_arenas() {
  stashes_.reset();
  work_.reset();
}

void ModelWorker::finish_passes() {
  figures_.fetch(ctx_);
  stages_.fetch_reports(ctx_);
  ctx_.synchronise();
  stages_.check_reports();
}

void ModelWorker::fail_for_memory(const device::OutOfMemory& error) {
  fail(error.code(), "{}; this worker asked for, at most at once and with what did not fit:\n{}",
       error.what(), memory().to_string());
}

MemoryReport ModelWorker::memory() {
  const bool on_gpu = ctx_.device == Device::kCuda || ctx_.modelled == Device::kCuda;
  return {.weights_and_grads = store_.bytes(),
          .stash = stashes_.peak_bytes() + inbox_.peak_bytes(),
          .work = work_.peak_bytes() + pair_work_.peak_bytes(),
          .communication = on_gpu ? communication_bytes(mesh_) : 0};
}

ArenaBytes ModelWorker::arena_bytes() const {
  const auto sum = [&](std::size_t (Arena::*bytes)() const, std::size_t of_stashes) {
    std::size_t all = of_stashes;
    for (const Arena* arena : {&work_, &pair_work_, &inbox_}) all += (arena->*bytes)();
    return static_cast<std::int64_t>(all);
  };
  return {.peak = sum(&Arena::peak_bytes, stashes_.peak_bytes()),
          .held = sum(&Arena::held_bytes, stashes_.held_bytes())};
}

}  // namespace jevons
