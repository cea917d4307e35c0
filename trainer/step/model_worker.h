// What one worker runs a model with: mesh, weights, its stages of the model, arenas. One that trains has
// gradients and an optimizer beside (worker.h), one that does not has none (inference.h). The same object
// runs on a CPU, on a GPU or on the meta device, where it is the dry run: memory, FLOPs and wire bytes of any
// world from one process.
#pragma once

#include <cstdint>

#include "kernels/core/context.h"
#include "kernels/core/device.h"
#include "kernels/figures.h"
#include "kernels/gemm.h"
#include "parallel/mesh.h"
#include "parallel/param_store.h"
#include "trainer/config/run_config.h"
#include "trainer/model/forward_backward.h"
#include "trainer/model/local_stages.h"
#include "trainer/step/memory_report.h"
#include "trainer/step/pipeline_plan.h"

namespace jevons {

DType compute_dtype(Precision precision);

// Where a worker computes.
struct ComputePlace {
  Device device = Device::kCpu;
  // Needed on kCuda alone: the compute stream of the world's communicators, which outlives the worker.
  Stream* stream = nullptr;
  // On kMeta: the device whose run is counted.
  Device modelled = Device::kCpu;
  // Learns of all ops and collectives of the worker, which it must outlive; null: nobody.
  WorkListener* listener = nullptr;
};

// Throws Error(kUsage) unless numerics: layout_invariant holds with products by `backend`.
void require_row_invariance(const GemmBackend& backend);

class ModelWorker {
 public:
  ModelWorker(const ModelWorker&) = delete;
  ModelWorker& operator=(const ModelWorker&) = delete;

  const RunConfig& config() const { return config_; }
  const Context& ctx() const { return ctx_; }
  Mesh& mesh() { return mesh_; }
  ParamStore& store() { return store_; }
  LocalStages& stages() { return stages_; }
  // (num_figures) f64 for each pass since the last clear(), of this rank's rows.
  Figures& figures() { return figures_; }

  // This worker's dp coordinate: which part of a batch it reads.
  int dp_rank() const { return mesh_.dp_rank(); }
  int dp_size() const { return mesh_.layout().dp; }

  // Sequences of one forward and backward pass.
  std::int64_t sequences_per_pass() const { return jevons::sequences_per_pass(config_); }
  PipelineRank pipeline();
  PipelinePlan& plan() { return plan_; }
  // Empties all arenas between passes.
  void reset_arenas();
  // Waits for the device and looks at what the passes so far left there: throws what they found.
  void finish_passes();
  virtual MemoryReport memory();
  // Of all arenas: bytes handed out at most, and bytes taken from the device.
  ArenaBytes arena_bytes() const;
  // Runs f(); if the GPU's memory does not suffice for it, the error says what holds how much.
  template <class F>
  auto with_memory_report(F f) {
    try {
      return f();
    } catch (const device::OutOfMemory& error) {
      fail_for_memory(error);
    }
  }

 protected:
  // Collective over `world`. The weights have no memory until store().allocate(); `clock` may be null.
  ModelWorker(const RunConfig& config, Communicator& world, const ComputePlace& place, PhaseClock* clock);
  ~ModelWorker() = default;

 private:
  [[noreturn]] void fail_for_memory(const device::OutOfMemory& error);

  RunConfig config_;
  Stashes stashes_;  // the first is ctx_.stash
  Arena work_, inbox_, pair_work_;
  Context ctx_;
  Mesh mesh_;
  ParamStore store_;
  PipelinePlan plan_;
  LocalStages stages_;
  Figures figures_;
};

}  // namespace jevons
