// Whole training runs on ranks, in a temporary directory.
#pragma once

#include <fmt/core.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "kernels/core/rng.h"
#include "tests/data/temp_files.h"
#include "tests/support/ranks.h"
#include "trainer/config/run_config.h"
#include "trainer/run/train.h"

namespace jevons::test {

// Text-like ids: each depends on the one before, so that there is something to learn.
inline void write_corpus(const std::string& prefix, std::int64_t tokens = 20000, std::int32_t vocab = 64) {
  const RandomStream random(11, "corpus");
  std::vector<std::int32_t> ids;
  std::int32_t id = 1;
  for (std::int64_t i = 0; i < tokens; ++i) {
    const auto r = random.below(static_cast<std::uint64_t>(i), 8);
    id = r < 6 ? (id * 5 + 3) % vocab : static_cast<std::int32_t>(r * 7 % static_cast<std::uint64_t>(vocab));
    ids.push_back(id);
  }
  write_pair(prefix, TokenDType::kU8, {ids});
}

// A model of 2 layers, one dense and one MoE with selection bias, and a run of 8 sequences a step.
inline std::string tiny_yaml(const std::string& corpus, const std::string& run_dir) {
  return fmt::format(
      "name: test\nrun_dir: {}\n"
      "model: {{vocab_size: 64, num_layers: 2, hidden_size: 32, ffn_hidden_size: 48, num_heads: 4, "
      "num_kv_heads: 2, seq_len: 16, moe: {{num_experts: 4, top_k: 2, expert_hidden_size: 16, "
      "num_shared_experts: 1, first_dense_layers: 1, router: {{selection_bias: true}}, balance_loss: 0.01, "
      "z_loss: 0.001}}}}\n"
      "data: {{train: [{{path: {}}}], validation_fraction: 0.1}}\n"
      "optimizer: {{lr: 0.01}}\nschedule: {{kind: cosine, warmup_steps: 2}}\n"
      "train: {{steps: 8, global_batch_size: 8, micro_batch_size: 1, eval_samples: 6}}\n"
      "cost: {{price_per_device_hour: 1, heartbeat_seconds: 0.01}}\n",
      run_dir, corpus);
}

// The configuration in full, as passports have it, but for what depends on the workers.
inline std::string resolved(const std::string& yaml, const std::vector<std::string>& overrides) {
  return parse_run_config(yaml, "test.yaml", overrides).to_yaml();
}

// Runs on `world_size` ranks; returns the exit code of rank 0. Errors of any rank are thrown.
inline ExitCode train(int world_size, const std::string& yaml, const std::vector<std::string>& overrides,
                      const StartOptions& start = {}) {
  const auto codes = run_ranks(world_size, [&](Communicator& world) {
    const RunConfig config = parse_run_config(yaml, "test.yaml", overrides,
                                              {.world = world.size(), .use = RunSetting::Use::kTraining});
    PhaseClock clock;
    return jevons::train(config, world, clock, start);
  });
  return codes[0];
}

// Training loss by step from the run's metrics.
inline std::map<std::int64_t, double> losses_of(const std::string& run_dir) {
  std::map<std::int64_t, double> losses;
  std::ifstream file(run_dir + "/metrics.jsonl");
  for (std::string line; std::getline(file, line);) {
    const auto record = nlohmann::json::parse(line);
    if (record["kind"] == "step") losses[record["step"].get<std::int64_t>()] = record["loss"].get<double>();
  }
  return losses;
}

}  // namespace jevons::test
