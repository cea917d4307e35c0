// One worker on a CPU or a GPU, step by step. Plain gradient descent at rate 1, so that a weight's change is
// its gradient.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "kernels/core/rng.h"
#include "parallel/meta/meta_communicator.h"
#include "tests/trainer/training_run.h"
#include "trainer/step/compute_device.h"
#include "trainer/step/train_step.h"

namespace jevons::test {

using Values = std::vector<float>;

// One worker and its steps on `choice`.
class Run {
 public:
  Run(DeviceChoice choice, const std::vector<std::string>& overrides)
      : config_(config_with(overrides)),
        alone_(0, 1),
        device_(choice, 0, alone_),
        worker_(config_, device_.world(), device_.place(), &clock_) {}

  StepOutcome step(std::int64_t index) {
    const std::int64_t sequences = config_.train.global_batch_size;
    HostBatch batch(sequences, config_.model.seq_len, worker_.ctx().device);
    fill(index, batch);
    return train_step(worker_, batch,
                      {.global_sequences = sequences, .optimizer_step = index + 1, .lr = config_.optim.lr});
  }
  void fill(std::int64_t index, HostBatch& batch) const {
    const std::int64_t length = config_.model.seq_len;
    const RandomStream random(static_cast<std::uint64_t>(index), "tokens");
    for (std::size_t i = 0; i < batch.tokens.size(); ++i) {
      const auto position = static_cast<std::int32_t>(i) % static_cast<std::int32_t>(length);
      batch.tokens[i] = static_cast<std::int32_t>(random.below(2 * i, 64));
      batch.targets[i] = i % 7 == 3 ? -1 : static_cast<std::int32_t>(random.below(2 * i + 1, 64));
      batch.doc_start[i] = position >= 5 ? 5 : 0;
    }
  }

  // fp32 weights by name.
  std::map<std::string, Values> weights() {
    std::map<std::string, Values> result;
    ParamStore& store = worker_.store();
    for (ParamId id = 0; id < store.params().size(); ++id) {
      const Param& p = store.params()[id];
      if (p.owner) continue;
      const Tensor master = master_of(p, store.group_of(id));
      Values& values = result[p.spec.name];
      values.resize(static_cast<std::size_t>(master.numel()));
      copy_and_wait(worker_.ctx().stream, {values.data(), master.shape, master.dtype, Device::kCpu}, master);
    }
    return result;
  }

  Worker& worker() { return worker_; }

 private:
  // One worker's parts hold whole weights.
  Tensor master_of(const Param& param, std::size_t group) {
    for (const Optimizer::Part& part : worker_.optimizer().parts()) {
      const std::int64_t at = param.flat_begin - part.range.begin;
      if (part.group == group && at >= 0 && at < part.range.numel)
        return part.master.slice(at, at + param.local_shape.numel());
    }
    return {};
  }
  static RunConfig config_with(std::vector<std::string> overrides) {
    for (const char* fixed :
         {"train.precision=bf16", "optimizer.kind=sgd", "optimizer.lr=1", "optimizer.clip_norm=0",
          "train.global_batch_size=2", "train.micro_batch_size=1", "model.init_std=0.2"})
      overrides.insert(overrides.begin(), fixed);
    overrides.push_back("device=cuda");
    RunConfig config = parse_run_config(tiny_yaml("corpus", "run"), "test.yaml", overrides, {.world = 1});
    config.threads = 1;
    return config;
  }

  RunConfig config_;
  MetaCommunicator alone_;
  ComputeDevice device_;
  PhaseClock clock_;
  Worker worker_;
};

}  // namespace jevons::test
