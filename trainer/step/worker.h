// All that one worker computes with: mesh, weights, model, gradient sync, optimizer, arenas. The same object
// runs on a CPU, on a GPU or on the meta device, where it is the dry run: memory, FLOPs and wire bytes of any
// world from one process.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kernels/core/context.h"
#include "kernels/core/device.h"
#include "kernels/figures.h"
#include "kernels/gemm.h"
#include "parallel/grad_reducer.h"
#include "parallel/mesh.h"
#include "parallel/param_store.h"
#include "trainer/config/run_config.h"
#include "trainer/model/forward_backward.h"
#include "trainer/model/local_stages.h"
#include "trainer/optim/optimizer.h"
#include "trainer/step/pipeline_plan.h"
#include "trainer/step/qk_clip.h"

namespace jevons {

namespace cpu {
struct GemmEngine;
}

DType compute_dtype(Precision precision);

// Bytes of one worker at its peak.
struct MemoryReport {
  std::size_t weights_and_grads = 0;  // with the partial sums of layout-invariant gradients
  std::size_t optimizer = 0;
  std::size_t stash = 0;          // saved activations of all micro-batches under way
  std::size_t work = 0;           // temporaries, on GPUs with the scratch of their libraries
  std::size_t communication = 0;  // buffers of the GPUs' collectives
  std::size_t total() const { return weights_and_grads + optimizer + stash + work + communication; }
  std::string to_string() const;  // a line for each, for messages
};

struct ArenaBytes {
  std::int64_t peak = 0, held = 0;
};
// The most of every rank's. Collective.
ArenaBytes most_of_ranks(ArenaBytes mine, Communicator& world);

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

class Worker {
 public:
  // Collective over `world`. Weights are initialised from config.train.seed; `clock` may be null.
  Worker(const RunConfig& config, Communicator& world, const ComputePlace& place, PhaseClock* clock);
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  const RunConfig& config() const { return config_; }
  const Context& ctx() const { return ctx_; }
  Mesh& mesh() { return mesh_; }
  ParamStore& store() { return store_; }
  LocalStages& stages() { return stages_; }
  GradReducer& reducer() { return *reducer_; }
  Optimizer& optimizer() { return *optimizer_; }
  // Nothing unless the configuration says so.
  std::optional<QkClip>& qk_clip() { return qk_clip_; }
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
  MemoryReport memory();
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
  std::unique_ptr<GradReducer> reducer_;  // after allocate()
  std::unique_ptr<Optimizer> optimizer_;
  std::optional<QkClip> qk_clip_;
};

}  // namespace jevons
